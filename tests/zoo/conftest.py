"""Fixtures: a web server, a small network with random weights, and a catalogue that has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.zoo.catalogue import CatalogueEntry, load_catalogue
from app.zoo.download import Sources
from tests.zoo.networks import random_network, saved
from tests.zoo.shelf import Shelf, open_shelf

SMALL, SHAPE, CLASSES = "cifar_resnet20_v1", (3, 32, 32), 10


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with open_shelf() as shelf:
        yield shelf


@pytest.fixture(scope="session")
def small_net() -> Any:
    return random_network(SMALL, SHAPE, CLASSES)


@pytest.fixture(scope="session")
def small_params(small_net: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the network's parameters as Gluon's ``save_parameters`` writes them."""
    return saved(small_net, tmp_path_factory.mktemp("small") / "small.params")


@pytest.fixture(scope="session")
def small_sha1(small_params: bytes) -> str:
    return hashlib.sha1(small_params).hexdigest()


@pytest.fixture(scope="session")
def small_path(small_sha1: str) -> str:
    """Return the path of the zip in Gluon's repository."""
    return f"gluon/models/small-{small_sha1[:8]}.zip"


@pytest.fixture
def places(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "models", tmp_path / "instance" / "zoo")


@pytest.fixture
def catalogue(tmp_path: Path) -> Callable[[str, str], CatalogueEntry]:
    """Writes the user's own catalogue, and gives one of its models."""

    def write(text: str, name: str) -> CatalogueEntry:
        (tmp_path / "instance").mkdir(exist_ok=True)
        (tmp_path / "instance" / "catalogue.ini").write_text(text, encoding="utf-8")
        return load_catalogue(tmp_path / "instance").get(name)

    return write


@pytest.fixture
def small(catalogue: Callable[[str, str], CatalogueEntry], shelf: Shelf, small_sha1: str) -> CatalogueEntry:
    """Return the small network, at three places of the server."""
    return catalogue(
        f"""
[source site]
bases =
    {shelf.url}/one
    {shelf.url}/two/
    {shelf.url}/three/

[small]
kind = gluon
network = {SMALL}
sha1 = {small_sha1}
source = site
input = cifar10
labels = cifar10
licence = Apache-2.0
parameters = 274,042
paper = resnet
paper_top1 = 91.25
""",
        "small",
    )
