"""Fixtures: the application with the models that it includes, and a real server."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings as hypothesis_settings

from app import create_app, load_models
from app.settings import ROOT, Settings
from bench.ports import free_ports
from tests.helpers import wait_until

# The tests start hundreds of processes; without compiled files each of them compiles the application again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SHIPPED = ("smile", "dogcat")
START_SECONDS = 120
CACHE = ROOT / "instance" / "cache"
"""Networks that are converted once for all tests, as the server itself keeps them."""
LONGEST = (
    "resilience",
    "browser",
    "server",
    "test_readme.py",
    "test_tutorials.py",
    "cli",
    "training",
    "bin",
    "telemetry",
)
"""Packages and files of tests that take longest: they begin first, so that both processes end at the same time."""

hypothesis_settings.register_profile("fast", max_examples=40, deadline=None, derandomize=True, database=None)
hypothesis_settings.register_profile("thorough", max_examples=200, deadline=None)
hypothesis_settings.load_profile("fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    packages = {name: number for number, name in enumerate(LONGEST)}
    folder = Path(__file__).parent
    items.sort(key=lambda item: packages.get(item.path.relative_to(folder).parts[0], len(packages)))


@pytest.fixture(autouse=True)
def heard_loggers() -> None:
    """Reset the log levels of the application, which an earlier test's server or library may have changed."""
    logging.disable(logging.NOTSET)
    listed = [logging.root.manager.loggerDict[name] for name in list(logging.root.manager.loggerDict)]
    for logger in (logging.root, *(item for item in listed if isinstance(item, logging.Logger))):
        if logger is logging.root or logger.name == "app" or logger.name.startswith("app."):
            logger.disabled, logger.propagate = False, True
            if logger.level > logging.WARNING:
                logger.setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models folder like that of a fresh clone, the tests' own."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHIPPED:
        shutil.copytree(ROOT / "models" / name, folder / name)
    return folder


@contextlib.contextmanager
def running_app(settings: Settings) -> Iterator[Flask]:
    """Yield the application with its models, in this process."""
    app = create_app(settings)
    load_models(app)
    try:
        yield app
    finally:
        app.extensions["dimple"].registry.close()


@pytest.fixture(scope="session")
def app(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Yield the whole application, with its models, in this process."""
    settings = Settings(
        models_dir=models_dir,
        cache_dir=CACHE,
        uploads_dir=tmp_path_factory.mktemp("uploads"),
        instance_dir=tmp_path_factory.mktemp("instance"),
        max_request_bytes=4 * 2**20,
        max_files=4,
        max_pixels=20_000_000,
    )
    with running_app(settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class Server:
    """A real gunicorn with the included models, and its addresses."""

    def __init__(
        self,
        models_dir: Path,
        work_dir: Path,
        by_make: bool = False,
        python: Path = Path(sys.executable),
        **more: str,
    ) -> None:
        """:param python: the interpreter of the environment in which it runs.
        :param more: further variables of its environment.
        """
        self.port, self.management_port = free_ports(2)
        self.log = work_dir / "server.log"
        (work_dir / "home").mkdir()
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("DIMPLE_", "MAKE", "MFLAGS"))
        }
        environ |= {
            "DIMPLE_HOST": "127.0.0.1",
            "DIMPLE_PORT": str(self.port),
            "DIMPLE_MANAGEMENT_PORT": str(self.management_port),
            "DIMPLE_WORKERS": "2",
            "DIMPLE_MODELS_DIR": str(models_dir),
            "DIMPLE_UPLOADS_DIR": str(work_dir / "uploads"),
            "DIMPLE_INSTANCE_DIR": str(work_dir / "instance"),
            "DIMPLE_CACHE_DIR": str(CACHE),
            "DIMPLE_MAX_REQUEST_BYTES": str(4 * 2**20),
            "HOME": str(work_dir / "home"),
        } | more
        with self.log.open("wb") as log:
            command = [str(python), "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
            if by_make:
                command = ["make", "run", f"PORT={self.port}", f"MANAGEMENT_PORT={self.management_port}"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_until_ready(self) -> None:
        wait_until(self._is_ready, 0.05, START_SECONDS, self.log.read_text)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"the server has ended:\n{self.log.read_text()}"
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return bool(urllib.request.urlopen(self.url("/readyz"), timeout=START_SECONDS).status == 200)
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=START_SECONDS)


@pytest.fixture(scope="session")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a running server, shared by the tests: no test may damage it."""
    server = Server(models_dir, tmp_path_factory.mktemp("server"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
