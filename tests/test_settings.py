from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from app.errors import SettingError
from app.settings import PREFIX, ROOT, Settings, read_settings

README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = [PREFIX + field.name.upper() for field in fields(Settings)]


def test_a_setting_comes_from_the_environment() -> None:
    settings = read_settings({"DIMPLE_PORT": "9000", "DIMPLE_ENGINE": "keras", "HOME": "/nowhere"})
    assert (settings.port, settings.engine, settings.management_port) == (9000, "keras", 8081)


def test_a_relative_folder_lies_under_the_checkout_and_an_absolute_one_where_it_says() -> None:
    settings = read_settings({"DIMPLE_MODELS_DIR": "more/models", "DIMPLE_UPLOADS_DIR": "/srv/pictures"})
    assert settings.models_dir == ROOT / "more" / "models"
    assert settings.uploads_dir == Path("/srv/pictures")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIMPLE_PORT", "eighty"),
        ("DIMPLE_PORT", "0"),
        ("DIMPLE_WORKERS", "-1"),
        ("DIMPLE_ENGINE", "abacus"),
        ("DIMPLE_MODELS_DIR", ""),
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
    default = getattr(Settings(), name.removeprefix(PREFIX).lower())
    row = re.search(rf"^\| `{name}` \| `([^`]*)` \| (.+) \|$", README, re.MULTILINE)
    assert row, f"{name} is missing from the README's table of settings"
    assert row[1] == str(default)


def test_the_readme_has_no_setting_that_does_not_exist() -> None:
    assert set(re.findall(r"DIMPLE_[A-Z_]+", README)) <= set(NAMES)
