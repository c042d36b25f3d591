"""The models of the test, and what they answer without a cluster."""

from __future__ import annotations

import io
import json
import shutil
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from app.engines.selftest import FILE, write_selftest
from app.formats.folder import open_model_folder
from app.formats.mxnet_params import read_params, write_params
from app.settings import ROOT
from app.zoo.imagenet import NAME as IMAGENET
from app.zoo.imagenet import ensure_imagenet

NAMES = ("smile", "dogcat", "imagenet")
ROLLED = "smile"
NEW, BAD = "smile-new", "smile-bad"
PHOTOGRAPH = ROOT / "static" / "astronaut.jpg"
FACE = (185, 86, 260, 161)
SHIFT = 0.75
"""What is added to the last layer's bias of the new smile network: other answers, the same labels."""

Answers = dict[str, dict[str, float]]


def make(folder: Path, cache: Path) -> None:
    """Make a models folder with the three models, and beside it two others to roll to: a right one, and one whose
    self-test cannot hold.
    """
    for name in NAMES:
        if name != IMAGENET:
            shutil.copytree(ROOT / "models" / name, folder / "models" / name)
    ensure_imagenet(folder / "models")
    picture = folder / "face.jpg"
    picture.write_bytes(face())
    for name in (NEW, BAD):
        other = folder / "others" / name
        shutil.copytree(ROOT / "models" / ROLLED, other)
        _shift(other)
        write_selftest(open_model_folder(other), picture, "auto", cache)
    facts = json.loads((folder / "others" / BAD / FILE).read_text())
    facts["probabilities"].reverse()
    (folder / "others" / BAD / FILE).write_text(json.dumps(facts))


def face() -> bytes:
    """Return the face in the photograph, which is sent to ``smile`` without a search for faces."""
    return _jpeg(Image.open(PHOTOGRAPH).crop(FACE))


def pictures() -> dict[str, bytes]:
    """Return what is sent to each model."""
    whole = _jpeg(Image.open(PHOTOGRAPH))
    return {"smile": face(), "dogcat": whole, "imagenet": whole}


def archive(folder: Path, target: Path) -> None:
    """Pack a model folder as an archive."""
    with zipfile.ZipFile(target, "w") as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed.write(path, path.relative_to(folder).as_posix())


def answers(url: str, requests: Mapping[str, bytes]) -> Answers:
    """Return the answers of a server to each picture: the probabilities by class."""
    return dict(_answers(url, requests))


def _answers(url: str, requests: Mapping[str, bytes]) -> Iterator[tuple[str, dict[str, float]]]:
    for model, picture in requests.items():
        request = urllib.request.Request(f"{url}/predict/{model}?top=1000", picture, {"Content-Type": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            predictions = json.load(answer)["predictions"]
        yield model, {item["class"]: item["probability"] for item in predictions}


def _shift(folder: Path) -> None:
    """Change the last layer's bias, and leave only the checkpoint."""
    (folder / "smile.h5").unlink()
    path = folder / "smile-0000.params"
    arrays = dict(read_params(path))
    name = [key for key in arrays if "bias" in key][-1]
    bias = np.array(arrays[name])
    bias[-1] += SHIFT
    write_params(path, arrays | {name: bias})


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=90)
    return out.getvalue()
