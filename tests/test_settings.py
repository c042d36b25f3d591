from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from app.errors import SettingError
from app.settings import PREFIX, ROOT, Settings, read_settings, to_environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = [PREFIX + field.name.upper() for field in fields(Settings)]


def test_a_setting_comes_from_the_environment() -> None:
    settings = read_settings({"DIMPLE_PORT": "9000", "DIMPLE_ENGINE": "keras", "HOME": "/nowhere"})
    assert (settings.port, settings.engine, settings.management_port) == (9000, "keras", 8081)


def test_a_relative_folder_lies_under_the_checkout_and_an_absolute_one_where_it_says() -> None:
    settings = read_settings({"DIMPLE_MODELS_DIR": "more/models", "DIMPLE_UPLOADS_DIR": "/srv/pictures"})
    assert settings.models_dir == ROOT / "more" / "models"
    assert settings.uploads_dir == Path("/srv/pictures")


@pytest.mark.parametrize(("text", "truth"), [("true", True), ("1", True), ("False", False), ("off", False)])
def test_a_truth_may_be_written_in_the_usual_ways(text: str, truth: bool) -> None:
    assert read_settings({"DIMPLE_SHIPPED_MODELS": text}).shipped_models is truth


def test_some_settings_may_be_empty() -> None:
    settings = read_settings({"DIMPLE_LOAD_MODELS": "", "DIMPLE_CERTIFICATE_FILE": "", "DIMPLE_ACCESS_LOG": ""})
    assert (settings.load_models, settings.certificate_file, settings.access_log) == ("", None, "")
    assert read_settings({"DIMPLE_LOG_FILE": "my.log"}).log_file == ROOT / "my.log"


def test_what_is_written_to_the_environment_is_read_from_it() -> None:
    values = {"shipped_models": False, "log_file": Path("/var/log/x"), "certificate_file": None, "load_models": ""}
    settings = read_settings(to_environment(values))
    assert {name: getattr(settings, name) for name in values} == values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIMPLE_PORT", "eighty"),
        ("DIMPLE_PORT", "0"),
        ("DIMPLE_WORKERS", "-1"),
        ("DIMPLE_ENGINE", "abacus"),
        ("DIMPLE_MODELS_DIR", ""),
        ("DIMPLE_SHIPPED_MODELS", "perhaps"),
        ("DIMPLE_SHIPPED_MODELS", ""),
        ("DIMPLE_UNREGISTER_TIMEOUT", "-1"),
        ("DIMPLE_HTTPS", "none"),
        ("DIMPLE_PROT", "8080"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name_and_value(name: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_has_every_setting_with_its_default(name: str) -> None:
    field = name.removeprefix(PREFIX).lower()
    row = re.search(rf"^\| `{name}` \| `([^`]*)` \| (.+) \|$", README, re.MULTILINE)
    assert row, f"{name} is missing from the README's table of settings"
    assert row[1] == to_environment({field: getattr(Settings(), field)})[name]


def test_the_readme_has_no_setting_that_does_not_exist() -> None:
    assert set(re.findall(r"DIMPLE_[A-Z_]+", README)) <= set(NAMES)
