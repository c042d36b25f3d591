"""What the catalogue says of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.types import Preprocess

Kind = Literal["gluon", "checkpoint", "archive"]


@dataclass(frozen=True)
class Base:
    """A place that files come from: ``https://…``, ``file://…`` or a folder.

    Where it is ``flat``, files lie there without the folders of their paths.
    """

    location: str
    flat: bool = False


@dataclass(frozen=True)
class Accuracy:
    """Per cent of pictures whose class is the first guess, and among the first five; None where nobody says."""

    top1: float | None = None
    top5: float | None = None


@dataclass(frozen=True)
class Paper:
    """Where a network was published, and what was reported there."""

    title: str
    url: str
    accuracy: Accuracy


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be fetched.

    ``kind`` is ``gluon`` (parameters alone: ``network`` says of which network), ``checkpoint`` (symbol and parameters)
    or ``archive`` (a model archive of MMS). ``files`` are the paths under a base, the weights' last. ``checksum`` is
    that of the weights (unpacked, where ``kind`` is ``gluon``) as ``sha1:…`` or ``sha256:…``, empty where none was
    published. ``labels`` is ``imagenet``, ``cifar10``, ``none``, ``archive`` or one of ``files``. ``shape`` is the
    input's without the batch axis. ``accuracy`` is what those who published these very weights measured.
    """

    name: str
    kind: Kind
    files: tuple[str, ...]
    bases: tuple[Base, ...]
    source: str
    network: str
    classes: int
    checksum: str
    licence: str
    labels: str
    shape: tuple[int, ...]
    preprocess: Preprocess
    parameters: int
    megabytes: float
    accuracy: Accuracy
    paper: Paper | None
    note: str
    aliases: tuple[str, ...]
