"""Labels, probabilities and times as people read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

WORDNET = re.compile(r"(n\d{8}) (?=\S)")
"""Number of a WordNet synset, with which ImageNet's labels begin."""
NEGATION = re.compile(r"(non|not|no)[-_ ]")
"""Prefix of a label for the absence of another class."""
KINDS = 4
"""Number of colours for classes."""
SURE = 0.5
"""Least probability of the first class of a sure answer."""
MARGIN = 0.2
"""Least distance between the first two probabilities of a sure answer."""
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))

Predictions = Sequence[Mapping[str, Any]]


def plain_label(label: str) -> str:
    """Return a label without its WordNet number: ``espresso`` for ``n07920052 espresso``."""
    return WORDNET.sub("", label, count=1)


def display_name(label: str) -> str:
    """Return a class's name as people write it: ``Bald eagle`` for ``n01614925 bald eagle, American eagle, …``, and
    ``Not smiling`` for ``non-smiling``."""
    plain = plain_label(label)
    if plain != label:
        plain = plain.partition(",")[0]
    plain = NEGATION.sub("not ", plain, count=1)
    if "_" in plain and " " not in plain:
        plain = plain.replace("_", " ")
    return plain[:1].upper() + plain[1:]


def synonyms(label: str) -> str:
    """Return the other names of a WordNet label: ``American eagle, Haliaeetus leucocephalus``; empty for others."""
    return plain_label(label).partition(",")[2].strip() if WORDNET.match(label) else ""


def distinct_names(labels: Sequence[str]) -> list[str]:
    """Return a display name for each label. Names that several labels share also have the label's number or place:
    ``Crane (n02012849)``."""
    names = [display_name(label) for label in labels]
    shared = {name for name, count in Counter(name.lower() for name in names).items() if count > 1}
    return [
        f"{name} ({_distinction(label, place)})" if name.lower() in shared else name
        for place, (label, name) in enumerate(zip(labels, names, strict=True), 1)
    ]


def _distinction(label: str, place: int) -> str:
    match = WORDNET.match(label)
    return match[1] if match else f"class {place}"


def is_unsure(predictions: Predictions) -> bool:
    """Return whether an answer is uncertain: its first class has less than half, or is hardly ahead of the second."""
    first, second = (*(float(item["probability"]) for item in predictions[:2]), 0.0)[:2]
    return first < SURE or (len(predictions) > 1 and first - second < MARGIN)


def unsure_reason(predictions: Predictions) -> str:
    """Return the reason for which an answer is uncertain, as a sentence; empty if it is not."""
    if not is_unsure(predictions):
        return ""
    if predictions[0]["probability"] < SURE:
        return "The most likely class has less than half of the probability."
    return "The two most likely classes are close."


def face_kind(predictions: Predictions) -> int:
    """Return the colour of a face's class, a number below ``KINDS`` that is the same in all responses of its model."""
    labels = sorted(str(prediction["class"]) for prediction in predictions)
    return labels.index(predictions[0]["class"]) % KINDS


def faces_summary(faces: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of faces in each class: ``4 of 6 smiling``, or ``3 happy, 2 sad`` for several classes.

    :param faces: faces of a response document, at least one.
    """
    counts = Counter(str(face["predictions"][0]["class"]) for face in faces)
    positive = [label for face in faces[0]["predictions"] if not NEGATION.match(label := str(face["class"]))]
    if len(positive) == 1:
        return f"{counts[positive[0]]} of {len(faces)} {plain_label(positive[0])}"
    return ", ".join(f"{count} {plain_label(label)}" for label, count in counts.most_common())


def percent(probability: float, digits: int = 1) -> str:
    """Return a probability in percent: ``98.7%``. Only a certain one is called 100%."""
    text = f"{probability * 100:.{digits}f}"
    if probability < 1 and float(text) == 100:
        text = f"{100 - 10**-digits:.{digits}f}" if digits else "99"
    return text + "%"


def spoken_time(seconds: int) -> str:
    """Return a time in its largest whole unit, but one day as ``24 hours``; for example ``90 minutes``."""
    for size, name in UNITS:
        count = seconds // size
        if seconds % size == 0 and count > (1 if name == "day" else 0):
            return f"{count} {name}" + ("" if count == 1 else "s")
    return f"{seconds} seconds"
