"""The accuracy of face detection, and of the smile network on detected faces: ``make faces FACES="…"``.

``--pictures`` are folders with the photographs of ``face_labels.json``, whose faces were marked by eye: every face of
at least 2.2 % of the longer side with an eye and the mouth visible. ``--fetch`` downloads those that are on GitHub.
``--without`` is a folder or zip of photographs without people, ``--crops`` the SMILEs crops. OpenCV's Haar cascade,
which found the faces before, is measured beside the detector.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import requests
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.formats.folder import open_model_folder  # noqa: E402
from app.formats.pictures import open_pictures  # noqa: E402
from app.serving.model import Model, open_model  # noqa: E402
from app.settings import PictureLimits  # noqa: E402
from app.training.datasets import part_of  # noqa: E402
from app.types import Box  # noqa: E402
from app.utils.progress import echo  # noqa: E402
from app.vision.decode import decode  # noqa: E402
from app.vision.faces import crop, find_faces, load  # noqa: E402
from app.vision.preprocess import to_tensor  # noqa: E402

LABELS = ROOT / "bench" / "face_labels.json"
LIMITS = PictureLimits()
SEED = 19
TEST_SHARE = 0.1
# What a SMILEs crop is put into: pixels of its side, and of the photograph around it.
SIDE, AROUND = 192, 384
# The cascade as it was used: hits, smallest face, and the SMILEs crop in its box (left, top and side).
HITS, MIN_PART, MIN_SIDE, SEARCH_SIDE, FRAME = 6, 0.03, 24, 1000, (0.108, 0.205, 0.771)

Finder = Callable[[Image.Image], Sequence[Box]]


@dataclass
class Found:
    """The detections: faces that are there, boxes without a marked face, seconds of processor time."""

    faces: int = 0
    others: int = 0
    seconds: float = 0.0


def cascade(image: Image.Image) -> list[Box]:
    """Find faces as the Haar cascade does (Viola & Jones, 2001)."""
    grey = image.convert("L")
    grey.thumbnail((SEARCH_SIDE, SEARCH_SIDE), Image.Resampling.BILINEAR)
    back = image.width / grey.width
    shortest = max(MIN_SIDE, round(MIN_PART * max(grey.size)))
    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt.xml"
    boxes, hits = cv2.CascadeClassifier(str(path)).detectMultiScale2(
        np.asarray(grey), scaleFactor=1.1, minNeighbors=1, minSize=(shortest, shortest)
    )
    found: list[Box] = []
    for (x, y, side, _), count in sorted(zip(boxes, hits, strict=True), key=lambda item: -item[1]):
        left, top, part = FRAME
        box = Box(*(round(value * back) for value in (x + left * side, y + top * side, part * side, part * side)))
        if count >= HITS and all(_shared(box, other) <= 0.3 for other in found):
            found.append(box)
    return found


def _shared(one: Box, two: Box) -> float:
    width = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
    height = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
    return max(0, width) * max(0, height) / min(one.width * one.height, two.width * two.height)


def matched(faces: Sequence[Sequence[int]], boxes: Sequence[Box]) -> int:
    """Count the marked faces (left, top, right, bottom) that have a box of their own: its centre lies in the face, and
    it is half to twice as wide."""
    free = list(boxes)
    for left, top, right, bottom in faces:
        for box in free:
            x, y = box.x + box.width / 2, box.y + box.height / 2
            if left <= x <= right and top <= y <= bottom and 0.5 <= box.width / (right - left) <= 2:
                free.remove(box)
                break
    return len(boxes) - len(free)


def photographs(folders: Sequence[Path], fetch: Path | None) -> Iterator[tuple[str, Image.Image, list[list[int]]]]:
    """Yield the labelled photographs that are there: the source, the picture and its faces."""
    labels = json.loads(LABELS.read_text())
    missing = {label["sha256"]: label for label in labels}
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if one := missing.pop(hashlib.sha256(data).hexdigest(), None):
            yield one["source"], decode(data, LIMITS).image, one["faces"]
    for digest, item in missing.items():
        if fetch and item["source"].startswith("https://"):
            fetch.mkdir(parents=True, exist_ok=True)
            answer = requests.get(item["source"], timeout=60)
            answer.raise_for_status()
            if hashlib.sha256(answer.content).hexdigest() == digest:
                (fetch / f"{digest[:16]}.jpg").write_bytes(answer.content)
                yield item["source"], decode(answer.content, LIMITS).image, item["faces"]
                continue
        echo(f"not measured, as it is not there: {item['source']}")


def recall(given: argparse.Namespace) -> list[str]:
    """Compare both detectors on the labelled photographs."""
    total, ours, theirs, lines = 0, Found(), Found(), []
    for source, image, faces in photographs(given.pictures, given.fetch):
        total += len(faces)
        for found, find in ((ours, _finder(50)), (theirs, cascade)):
            started = time.process_time()
            boxes = find(image)
            found.seconds += time.process_time() - started
            hits = matched(faces, boxes)
            found.faces += hits
            found.others += len(boxes) - hits
            if source.endswith(("cr7.jpg", "biking.jpg")):
                name = "detector" if found is ours else "cascade"
                lines.append(f"{Path(source).name}, {name}: {hits} of {len(faces)}, other boxes {len(boxes) - hits}")
    for name, found in (("detector", ours), ("cascade", theirs)):
        lines.append(
            f"{name}: {found.faces} of {total} faces ({found.faces / max(1, total):.1%}), {found.others} other boxes "
            f"(most of them faces that are not marked), {found.seconds:.1f} s of a core"
        )
    if theirs.faces:
        lines.append(f"detector to cascade: {ours.faces / theirs.faces:.2f}")
    return lines


def false_faces(given: argparse.Namespace) -> list[str]:
    """Search photographs without people, a random sample of ``--number``, and save the hits for inspection."""
    lines = []
    given.hits.mkdir(parents=True, exist_ok=True)
    with open_pictures(given.without) as source:
        names = list(source.pictures)
        random.Random(SEED).shuffle(names)
        for name in names[: given.number]:
            image = decode(source.read(name), LIMITS).image
            if boxes := find_faces(image):
                lines.append(f"{name}: {len(boxes)}")
                image.save(given.hits / f"{Path(name).stem}.png")
        count = len(names[: given.number])
    return [f"boxes in {len(lines)} of {count} photographs; look at each in {given.hits}:", *lines]


def through_the_path(given: argparse.Namespace) -> list[str]:
    """Compare the accuracy on SMILEs crops with the accuracy on the same crops in larger pictures: face found, cut out
    and classified. Only crops that training never saw are taken."""
    model = open_model(open_model_folder(ROOT / "models" / "smile"), "openvino", cache_dir=ROOT / "instance" / "cache")
    backgrounds = _backgrounds(given)
    whole, path, found, total = 0, 0, 0, 0
    with open_pictures(given.crops) as source:
        names = [name for name in source.pictures if part_of(Path(name).name, TEST_SHARE) == "test"]
        for number, name in enumerate(sorted(names)[:: given.every]):
            image = decode(source.read(name), LIMITS).image
            smiles = "positives" in name
            paper = backgrounds[number % len(backgrounds)].copy()
            paper.paste(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), ((AROUND - SIDE) // 2,) * 2)
            total += 1
            middle = [box for box in find_faces(paper) if abs(box.x + box.width / 2 - AROUND / 2) < SIDE / 4]
            if middle:
                found += 1
                whole += _smiles(model, image) == smiles
                path += _smiles(model, crop(paper, middle[0])) == smiles
    return [
        f"SMILEs crops of {SIDE} pixels in photographs of {AROUND}: found {found} of {total} ({found / total:.1%})",
        f"accuracy on the crops themselves {whole / found:.4f}, through the path {path / found:.4f}",
    ]


def _backgrounds(given: argparse.Namespace) -> list[Image.Image]:
    with open_pictures(given.without) as source:
        names = list(source.pictures)
        chosen = random.Random(SEED).sample(names, 50)
        return [decode(source.read(name), LIMITS).image.resize((AROUND, AROUND)) for name in chosen]


def _smiles(model: Model, image: Image.Image) -> bool:
    rows = model.probabilities(to_tensor(image, model.preprocess, model.input.shape))
    return model.labels[int(rows[0].argmax())] == "smiling"


def _finder(limit: int) -> Finder:
    return lambda image: find_faces(image, limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders with labelled photographs")
    parser.add_argument("--fetch", type=Path, help="folder to which photographs from GitHub are downloaded")
    parser.add_argument("--without", type=Path, help="folder or zip of photographs without people")
    parser.add_argument("--number", type=int, default=600, help="of these that are searched; default %(default)s")
    parser.add_argument("--hits", type=Path, default=ROOT / "instance" / "bench" / "hits", help="where hits go")
    parser.add_argument("--crops", type=Path, help="folder or zip of SMILEs; needs --without, too")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crop; default %(default)s")
    given = parser.parse_args()
    load()
    if given.pictures or given.fetch:
        echo("\n".join(recall(given)))
    if given.without:
        echo("\n".join(false_faces(given)))
    if given.crops:
        echo("\n".join(through_the_path(given)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
