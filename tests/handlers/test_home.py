"""The folders and packages of models that bring code, through the registry."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.backend.registrations import Registration
from app.errors import RequirementsError, SettingError
from app.formats.archive.cache import remove_unused
from app.handlers.environment import HandlerEnvironment, prepare_environment
from app.handlers.worker import usable_gpus
from app.serving.custom_model import CustomModel
from app.serving.management import describe
from app.serving.registry import Registry
from app.settings import Settings
from app.utils.system import gpus
from tests.handlers.archives import archive, request
from tests.handlers.wheels import make_wheel

TELLS = """
    import os

    try:
        import dimple_probe as probe
    except ModuleNotFoundError:
        probe = None

    def handle(data, context):
        return [{
            "version": probe and probe.VERSION, "home": os.path.expanduser("~"), "environ": dict(os.environ),
            "gpu": context.system_properties["gpu_id"],
        }] * len(data or ())
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    wheels = tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        make_wheel(wheels, version)
    return Settings(
        models_dir=tmp_path / "models",
        instance_dir=tmp_path / "instance",
        install_requirements=True,
        pip_options=f"--no-index --find-links '{wheels}'",
    )


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    registry = Registry(settings)
    registry.start()
    yield registry
    registry.close()


def make_registration(folder: Path, requirements: str = "") -> Registration:
    name = folder.name
    files = {"service.py": TELLS, "MAR-INF/MANIFEST.json": json.dumps({"model": {"handler": "service:handle"}})}
    archive(folder, files | ({"requirements.txt": requirements} if requirements else {}))
    return Registration(name, name, str(folder), min_workers=1, max_workers=1)


def ask(registry: Registry, name: str) -> dict[str, object]:
    with registry.acquire(name) as model:
        assert isinstance(model, CustomModel)
        return dict(json.loads(model.answer(request()).body))


def test_two_models_with_conflicting_packages_are_served_together(registry: Registry, tmp_path: Path) -> None:
    registry.register(make_registration(tmp_path / "old", "dimple-probe==1.0"))
    registry.register(make_registration(tmp_path / "new", "dimple-probe==2.0"))
    registry.register(make_registration(tmp_path / "none"))
    versions = [ask(registry, name)["version"] for name in ("old", "new", "none", "old")]
    assert versions == ["1.0", "2.0", None, "1.0"]


@pytest.mark.slow
def test_a_model_is_registered_only_when_its_packages_can_be_installed(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"model own could not .* No matching distribution .* dimple-probe==3"):
        registry.register(make_registration(tmp_path / "own", "dimple-probe==3"))
    assert registry.entries() == []
    (begun,) = (tmp_path / "instance" / "handlers").glob("*/venv")
    (begun / "left").touch()
    make_wheel(tmp_path / "wheels", "3")
    registry.register(make_registration(tmp_path / "own", "dimple-probe==3"))
    assert ask(registry, "own")["version"] == "3"
    assert not (begun / "left").exists()  # nothing is built upon what was cut off


def test_packages_are_installed_only_if_the_setting_allows_it(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    off = dataclasses.replace(settings, install_requirements=False)
    make_registration(tmp_path / "own", "dimple-probe==1.0")
    made = prepare_environment("own", tmp_path / "own", off)
    assert made == HandlerEnvironment(made.home)
    assert sorted(path.name for path in made.home.parent.iterdir()) == ["home"]
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "own: its requirements.txt is not installed; DIMPLE_INSTALL_REQUIREMENTS=true has it be"
    ]


def test_packages_are_installed_once_and_again_when_the_file_has_changed(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.handlers.environment")
    make_registration(tmp_path / "own", "dimple-probe==1.0")
    homes: list[HandlerEnvironment] = []
    threads = [
        threading.Thread(target=lambda: homes.append(prepare_environment("own", tmp_path / "own", settings)))
        for _ in "123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(homes)) == 1
    assert homes[0].python.is_file()
    assert [record.message for record in caplog.records if record.name == "app.handlers.environment"] == [
        "own: installing its requirements.txt"
    ]
    make_registration(tmp_path / "own", "dimple-probe==2.0")
    assert prepare_environment("own", tmp_path / "own", settings).python != homes[0].python
    assert len([record for record in caplog.records if record.name == "app.handlers.environment"]) == 2


def test_each_model_has_its_own_home(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "t")
    for name in ("one", "two"):
        registry.register(make_registration(tmp_path / name))
    homes = {Path(str(ask(registry, name)["home"])) for name in ("one", "two")}
    assert len(homes) == 2
    assert all(home.is_dir() and home.is_relative_to(tmp_path / "instance" / "handlers") for home in homes)
    assert all(home.stat().st_mode & 0o077 == 0 for home in homes)
    assert "SECRET_TOKEN" not in str(ask(registry, "one"))


@pytest.fixture
def list_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Put an ``nvidia-smi`` on the ``PATH`` that lists so many GPUs."""

    def put(count: int) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\nseq 0 {count - 1}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    gpus.cache_clear()
    usable_gpus.cache_clear()
    yield put
    gpus.cache_clear()
    usable_gpus.cache_clear()


@pytest.mark.parametrize(("listed", "number", "usable"), [(4, 3, 3), (2, 3, 2), (0, 1, 0), (2, 0, 0), (None, 1, 0)])
def test_handlers_get_no_more_gpus_than_there_are(
    list_gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, listed: int | None, number: int, usable: int
) -> None:
    if listed is None:
        monkeypatch.setenv("PATH", "")
    else:
        list_gpus(listed)
    assert usable_gpus(number) == usable


def test_gpus_are_assigned_and_reported(settings: Settings, tmp_path: Path, list_gpus: Callable[[int], None]) -> None:
    list_gpus(4)
    make_registration(settings.models_dir / "own")
    with_gpus = dataclasses.replace(settings, number_of_gpu=3, workers=1)
    registry = Registry(with_gpus)
    registry.start()
    try:
        workers = describe(registry.entry("own"))["workers"]
        assert [worker["gpu"] for worker in workers] == [True, True, True]  # as many as there are GPUs
        assert ask(registry, "own")["gpu"] in (0, 1, 2)
    finally:
        registry.close()


def test_unused_homes_are_removed(settings: Settings, tmp_path: Path) -> None:
    make_registration(tmp_path / "own")
    made = prepare_environment("own", tmp_path / "own", settings)
    homes = settings.instance_dir / "handlers"
    left = homes / ("0" * 64)
    (left / "venv").mkdir(parents=True)
    assert remove_unused(homes, ()) == [left]
    assert made.home.is_dir()


def test_unparsable_pip_options_are_a_setting_error(settings: Settings, tmp_path: Path) -> None:
    make_registration(tmp_path / "own", "dimple-probe==1.0")
    with pytest.raises(SettingError, match="pip_options"):
        prepare_environment("own", tmp_path / "own", dataclasses.replace(settings, pip_options="--find-links 'open"))
