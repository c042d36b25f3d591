"""A real engine process, and a network for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.shared.engine_process import EngineProcess, engine_process, write_network


@pytest.fixture
def running(tmp_path: Path) -> Iterator[EngineProcess]:
    with engine_process(tmp_path) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_network(tmp_path)
