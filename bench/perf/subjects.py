"""The subjects of the measurement: the networks, as each server takes them, and their pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.parity.machine import Missing
from bench.parity.store import signature

HERE = Path(__file__).parent
SMILE, SQUEEZENET, RESNET, PHOTOGRAPH = "smile", "squeezenet", "resnet50", "photograph"
NAMES = (SMILE, SQUEEZENET, RESNET, PHOTOGRAPH)
INT8 = "resnet50-int8"
ROWS = (*NAMES, INT8)
"""What the tables have; the last is measured in a server of its own."""
TITLES = {
    SMILE: "smile CNN",
    SQUEEZENET: "SqueezeNet",
    RESNET: "ResNet-50 v1",
    PHOTOGRAPH: "a photograph",
    INT8: "ResNet-50 v1, INT8",
}
PUBLISHED = "squeezenet_v1.0"
ARCHITECTURES = {SQUEEZENET: "squeezenet1.1", RESNET: "resnet50_v1"}
FACE = (170, 60, 290, 180)
"""Where the face is in ``static/astronaut.jpg``."""


@dataclass(frozen=True)
class Subject:
    """A network under test.

    :param source: folder with checkpoint, ``signature.json`` and ``synset.txt``.
    :param picture: the file that is sent.
    :param origin: the source of the weights, for the document.
    """

    name: str
    source: Path
    picture: Path
    origin: str

    @property
    def title(self) -> str:
        return TITLES[self.name]


def make_subjects(
    folder: Path, names: Sequence[str], python: Path, checkout: Path, given: Path | None
) -> list[Subject]:
    """Make the checkpoints and pictures.

    :param folder: for the files.
    :param python: of MMS's environment.
    :param given: folder that may have ``squeezenet_v1.0``; None makes one with weights of a fixed seed.
    """
    return [_subject(folder / name, name, python, checkout, given) for name in names]


def _subject(source: Path, name: str, python: Path, checkout: Path, given: Path | None) -> Subject:
    portrait = checkout / "static" / "astronaut.jpg"
    if name in (SMILE, PHOTOGRAPH) and not (source.parent / SMILE).exists():
        _run(sys.executable, str(HERE / "smile_net.py"), str(source.parent))
    if name == PHOTOGRAPH:
        _look_for_faces(source.parent / SMILE, source)
        return Subject(name, source, portrait, "the smile CNN, on the face found in a portrait of 512 by 512 pixels")
    if name == SMILE:
        return Subject(name, source, _face(portrait, source), "the tutorials' (32 by 32 pixels), weights from a seed")
    if name == SQUEEZENET and given:
        if not (given / PUBLISHED).is_dir():
            raise Missing(f"{given / PUBLISHED} is not there; --models-from names the folder that has it")
        shutil.copytree(given / PUBLISHED, source)
        origin = f"the published {PUBLISHED}"
    else:
        _run(str(python), str(HERE / "nets.py"), str(source), name, ARCHITECTURES[name])
        origin = f"Gluon's {ARCHITECTURES[name]}, weights from a fixed seed"
    (source / "signature.json").write_text(signature(224, 1000))
    return Subject(name, source, portrait, origin)


def _look_for_faces(smile: Path, target: Path) -> None:
    """Copy the smile network, as a model that gets the faces of a photograph."""
    shutil.copytree(smile, target, ignore=shutil.ignore_patterns("MAR-INF", "*.png"))
    for path in target.glob(f"{SMILE}*"):
        path.rename(target / path.name.replace(SMILE, PHOTOGRAPH, 1))
    signature = json.loads((target / "signature.json").read_text())
    signature["preprocess"]["faces"] = True
    (target / "signature.json").write_text(json.dumps(signature))


def _face(portrait: Path, source: Path) -> Path:
    """Return the portrait's face as the network takes it: grey, of the input's size, so that no search is needed, and
    no two ways to resize can differ.
    """
    from PIL import Image

    side = json.loads((source / "signature.json").read_text())["inputs"][0]["data_shape"][-1]
    target = source.parent / "face.jpg"
    with Image.open(portrait) as opened:
        opened.crop(FACE).convert("L").resize((side, side)).save(target, "JPEG", quality=90)
    return target


def pack(subject: Subject, store: Path, python: Path, checkout: Path, kind: str) -> str:
    """Put the archive of a network into the store of a server. The checkpoint in it is the same for both.

    :param kind: ``mms`` or ``dimple``.
    :returns: what the server's ``load_models`` is to say.
    """
    store.mkdir(exist_ok=True)
    if subject.name not in (SMILE, PHOTOGRAPH):  # what mxnet-model-export writes: MMS's own vision service, for both
        exporter = str(checkout / "bin" / "mxnet-model-export")
        _run(exporter, "--model-name", subject.name, "--model-path", str(subject.source), cwd=store)
        return f"{subject.name}={subject.name}.model"
    source = _checkpoint(subject, kind)
    handler, archiver = "mxnet_vision_service:handle", checkout / "bin" / "model-archiver"
    if kind == "mms":
        for file in (HERE / "grey").glob("*.py"):
            shutil.copy(file, source)
        service = "photo_service" if subject.name == PHOTOGRAPH else "grey_service"
        handler, archiver = f"{service}:handle", python.parent / "model-archiver"
    names = ["--model-name", subject.name, "--model-path", str(source), "--handler", handler]
    _run(str(archiver), *names, "--export-path", str(store))
    return f"{subject.name}={subject.name}.mar"


def _checkpoint(subject: Subject, kind: str) -> Path:
    """Return the checkpoint alone, without what Keras saved."""
    target = subject.source.parent / f"{subject.name}-{kind}"
    shutil.copytree(subject.source, target, ignore=shutil.ignore_patterns("MAR-INF", "*.h5", "*.png"))
    return target


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}{done.stdout[-500:]}")
