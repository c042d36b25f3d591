"""The models that are served from the start."""

from __future__ import annotations

import platform
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.backend.registrations import RegistrationFile
from app.backend.sources import ModelSpec, named_models, restore_unregistered
from app.serving.custom_model import CustomModel
from app.serving.registry import Registry
from app.settings import Settings
from tests.handlers.archives import archive, request

ECHO = {
    "service.py": "def handle(data, context):\n    return data and ['yes'] * len(data)\n",
    "MAR-INF/MANIFEST.json": '{"model": {"modelName": "echo", "handler": "service:handle"}}',
}


Served = Callable[[Settings], list[str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    models = tmp_path / "models"
    archive(models / "one", ECHO)
    archive(models / "two", ECHO)
    return Settings(models_dir=models, instance_dir=tmp_path / "instance", workers=1)


def started(settings: Settings) -> Registry:
    registry = Registry(settings)
    registry.start()
    return registry


@pytest.fixture
def served() -> Iterator[Served]:
    """Yield a function that returns the names of the models that answer under given settings."""
    open_ones = []

    def names_under(settings: Settings) -> list[str]:
        registry = started(settings)
        open_ones.append(registry)
        return registry.names()

    yield names_under
    for registry in open_ones:
        registry.close()


def test_a_missing_models_folder_counts_as_empty(settings: Settings, tmp_path: Path, served: Served) -> None:
    gone = tmp_path / "gone"
    assert served(replace(settings, models_dir=gone)) == []
    assert not gone.exists()


def test_the_log_names_the_python_version_that_runs_a_python_2_archive(
    settings: Settings, caplog: pytest.LogCaptureFixture, served: Served
) -> None:
    manifest = settings.models_dir / "one" / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('{"model"', '{"runtime": "python2", "model"'))
    served(settings)
    messages = [record.getMessage() for record in caplog.records if "Python 2" in record.getMessage()]
    assert messages == [f"one asks for Python 2; its code runs under Python {platform.python_version()}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALL", None),
        (" all ", None),
        ("", ()),
        ("NONE", ()),
        ("a.mar", (ModelSpec("a.mar"),)),
        ("x=a.mar, y = b/c ,", (ModelSpec("a.mar", "x"), ModelSpec("b/c", "y"))),
        ("n=http://host/a.mar", (ModelSpec("http://host/a.mar", "n"),)),
        ("http://host/a.mar?v=1", (ModelSpec("http://host/a.mar?v=1"),)),
    ],
)
def test_the_setting_is_read_as_multi_model_server_reads_it(text: str, expected: object) -> None:
    assert named_models(text) == expected


def test_all_models_or_none_or_the_named_ones_are_served(settings: Settings, served: Served, tmp_path: Path) -> None:
    outside = archive(tmp_path / "elsewhere" / "three", ECHO)

    assert served(settings) == ["one", "two"]
    assert served(replace(settings, load_models="NONE")) == []
    assert served(replace(settings, load_models="two")) == ["echo"]  # its name in the manifest
    assert served(replace(settings, load_models=f"a=two,b={outside}")) == ["a", "b"]


def test_a_missing_model_does_not_affect_the_others(settings: Settings) -> None:
    registry = started(replace(settings, load_models="x=absent.mar,y=one,z=/absent,http://127.0.0.1:1/gone.mar"))

    assert registry.names() == ["y"]
    assert {entry.name: entry.failure.rsplit(":")[0] for entry in registry.entries() if not entry.model} == {
        "x": "Model not found in model store",
        "z": "/absent is neither a model folder nor an archive that can be read",
        "gone": "Failed to download model from",
    }
    registry.close()


def test_an_archive_from_a_web_server_is_fetched_once(settings: Settings, served: Served, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "web" / "echo"), "zip", archive(tmp_path / "echo", ECHO))
    (tmp_path / "web" / "echo.zip").rename(tmp_path / "web" / "echo.mar")
    paths = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "web"))  # type: ignore[arg-type]

        def log_request(self, *args: object) -> None:
            paths.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/echo.mar"
        assert served(replace(settings, load_models=url)) == ["echo"]
        first = len(paths)
        server.shutdown()

    assert served(replace(settings, load_models=url)) == ["echo"]
    assert len(paths) == first > 0


def test_an_unregistered_model_is_served_again_if_a_start_names_it(settings: Settings, served: Served) -> None:
    named = replace(settings, load_models="echo=one")
    registry = started(named)
    registry.unregister("echo")
    registry.close()

    assert served(named) == []  # a process that is started again in between
    restore_unregistered(named)
    assert served(named) == ["echo"]


def test_the_default_handler_serves_an_archive_without_a_manifest(settings: Settings, served: Served) -> None:
    archive(settings.models_dir / "bare", {"service.py": ECHO["service.py"]})

    assert served(replace(settings, load_models="bare")) == []
    assert served(replace(settings, load_models="bare", default_service_handler="service:handle")) == ["bare"]


def test_a_repacked_archive_keeps_its_settings_and_serves_the_new_content(settings: Settings) -> None:
    def pack(word: str) -> None:
        files = {**ECHO, "service.py": ECHO["service.py"].replace("yes", word)}
        folder = archive(settings.instance_dir.parent / word, files)
        packed = shutil.make_archive(str(settings.models_dir / "echo"), "zip", folder)
        Path(packed).replace(settings.models_dir / "echo.mar")

    pack("old")
    registry = started(settings)
    registry.scale("echo", 2, 2, 0)
    registry.close()
    pack("new")

    registry = started(settings)

    with registry.acquire("echo") as model:
        assert isinstance(model, CustomModel)
        assert model.answer(request()).body == b"new"
    assert registry.entry("echo").registration.min_workers == 2
    registry.close()


@pytest.mark.parametrize("damage", ["", "no JSON", None])
def test_a_start_from_the_copy_restores_the_file_for_other_processes(
    settings: Settings, served: Served, damage: str | None
) -> None:
    assert served(settings) == ["one", "two"]
    path = settings.instance_dir / "registry.json"
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    assert served(settings) == ["one", "two"]
    assert RegistrationFile(settings.instance_dir).read().models.keys() == {"one", "two"}
