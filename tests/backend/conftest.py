"""A real backend process, and a network for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.process import Backend, backend_process, write_network


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Yield a process that the tests share: none may end it."""
    with backend_process(tmp_path_factory.mktemp("backend")) as started:
        yield started


@pytest.fixture
def single_use(tmp_path: Path) -> Iterator[Backend]:
    """Yield a process of the test's own."""
    with backend_process(tmp_path) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_network(tmp_path)
