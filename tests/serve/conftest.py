"""A server in an environment of its own, with nothing but what ``requirements-serve.txt`` names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.conftest import Server

PYTHON = Path(os.environ.get("SERVE_PYTHON", ROOT / ".venv-serve" / "bin" / "python"))
UNCONVERTED = "plain"
"""A model as it was trained, which such a server cannot open."""


@pytest.fixture(scope="session")
def serve_python() -> Path:
    """Return the interpreter of that environment."""
    if not PYTHON.is_file():
        pytest.skip(f"there is no {PYTHON}; make test-serve makes it")
    return PYTHON


@pytest.fixture(scope="session")
def serve_models(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models folder like that of a fresh clone, and an unconverted model."""
    folder = tmp_path_factory.mktemp("serve") / "models"
    shutil.copytree(models_dir, folder)
    shutil.copytree(
        ROOT / "models" / "dogcat", folder / UNCONVERTED, ignore=shutil.ignore_patterns("converted", "proof.json")
    )
    return folder


@pytest.fixture(scope="session")
def slim(serve_python: Path, serve_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield the server, shared by the tests."""
    work = tmp_path_factory.mktemp("slim")
    server = Server(serve_models, work, python=serve_python, DIMPLE_CACHE_DIR=str(work / "cache"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
