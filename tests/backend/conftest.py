"""A real backend process, and a network for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.process import Backend, backend_process, write_network


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Backend]:
    with backend_process(tmp_path) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_network(tmp_path)
