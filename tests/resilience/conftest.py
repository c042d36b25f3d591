"""Servers for the faults: real ones, with models that load at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.reliability.models import COLOUR, HANDLED, HEAVY
from bench.reliability.served import NotInTime, Served, make, running
from tests.conftest import CACHE


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield one server for all faults that it must survive."""
    with running(make(tmp_path_factory.mktemp("served"), CACHE, (COLOUR, HEAVY, HANDLED), client_timeout=3)) as served:
        yield served


@pytest.fixture
def served(shared: Served) -> Served:
    """Return the shared server; restarted if a failed test has left it broken, so that later tests are meaningful."""
    try:
        whole = shared.is_whole()
    except NotInTime:
        whole = False
    if not whole:
        shared.stop()
        shared.start()
    return shared


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder for a server of the test's own."""
    return tmp_path / "server"
