from __future__ import annotations

import re
from dataclasses import Field, fields
from pathlib import Path

import pytest

from app.errors import SettingError
from app.settings import PREFIX, ROOT, Settings, read_settings, to_environment, write_settings

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
NAMES = [PREFIX + field.name.upper() for field in fields(Settings)]


def test_a_setting_comes_from_the_environment() -> None:
    settings = read_settings({"DIMPLE_PORT": "9000", "DIMPLE_ENGINE": "keras", "HOME": "/nowhere"})
    assert (settings.port, settings.engine, settings.management_port) == (9000, "keras", 8081)


def test_a_relative_folder_is_below_the_checkout_and_an_absolute_one_is_not() -> None:
    settings = read_settings({"DIMPLE_MODELS_DIR": "more/models", "DIMPLE_UPLOADS_DIR": "/srv/pictures"})
    assert settings.models_dir == ROOT / "more" / "models"
    assert settings.uploads_dir == Path("/srv/pictures")


@pytest.mark.parametrize(("text", "truth"), [("true", True), ("1", True), ("False", False), ("off", False)])
def test_a_boolean_may_be_written_in_the_usual_ways(text: str, truth: bool) -> None:
    assert read_settings({"DIMPLE_SHIPPED_MODELS": text}).shipped_models is truth


def test_some_settings_may_be_empty() -> None:
    settings = read_settings({"DIMPLE_LOAD_MODELS": "", "DIMPLE_CERTIFICATE_FILE": "", "DIMPLE_ACCESS_LOG": ""})
    assert (settings.load_models, settings.certificate_file, settings.access_log) == ("", None, "")
    assert read_settings({"DIMPLE_LOG_FILE": "my.log"}).log_file == ROOT / "my.log"


def test_settings_written_to_the_environment_are_read_back() -> None:
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
def test_an_invalid_setting_is_refused_with_its_name_and_value(name: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_settings({name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_misspelt_name_is_reported_in_one_line_with_a_suggestion() -> None:
    with pytest.raises(SettingError, match="did you mean DIMPLE_MAX_PIXELS") as caught:
        read_settings({"DIMPLE_MAX_PIXEL": "9"})
    assert len(str(caught.value)) < 150
    with pytest.raises(SettingError) as caught:
        read_settings({"DIMPLE_QQQQ": "9"})
    assert str(caught.value) == "Unknown setting DIMPLE_QQQQ='9'. docs/settings.md lists all settings."


def test_the_environment_takes_precedence_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.env").write_text("# mine\n\nDIMPLE_PORT=9000\n DIMPLE_ENGINE = keras \nDIMPLE_MIRROR=a=b\n")
    settings = read_settings({"DIMPLE_INSTANCE_DIR": str(tmp_path), "DIMPLE_ENGINE": "mxnet"})
    assert (settings.port, settings.engine, settings.mirror) == (9000, "mxnet", "a=b")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("DIMPLE_PROT=1", "DIMPLE_PROT"),
        ("DIMPLE_PORT=eighty", "a whole number"),
        ("PORT=1", "PORT"),
        ("nonsense", "NAME=value"),
        ("DIMPLE_INSTANCE_DIR=/elsewhere", "DIMPLE_INSTANCE_DIR"),
    ],
)
def test_an_invalid_line_is_refused_with_its_file_and_line(line: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "settings.env").write_text(f"DIMPLE_HOST=localhost\n{line}\n")
    with pytest.raises(SettingError) as caught:
        read_settings({"DIMPLE_INSTANCE_DIR": str(tmp_path), "DIMPLE_PORT": "1"})
    assert f"{tmp_path / 'settings.env'}, line 2: " in str(caught.value)
    assert expected in str(caught.value)


def test_writing_settings_keeps_the_other_lines_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "settings.env"
    write_settings({"workers": 3}, file, ["first"])
    file.write_text(file.read_text() + "# mine\nDIMPLE_PORT=9000\n")
    write_settings({"workers": 4, "threads": 5}, file, ["second"])
    assert file.read_text().splitlines() == [
        *("# mine", "DIMPLE_PORT=9000", "# tuned: second"),
        *("DIMPLE_WORKERS=4", "DIMPLE_THREADS=5"),
    ]
    assert [path.name for path in file.parent.iterdir()] == ["settings.env"]


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_the_document_has_every_setting_with_its_default_and_meaning(field: Field[object]) -> None:
    name = PREFIX + field.name.upper()
    row = re.search(rf"^\| `{name}` \| `?([^`]*?)`? \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert row, f"{name} is missing from docs/settings.md"
    assert row[1] == to_environment({field.name: field.default})[name]
    assert row[2] == field.metadata["help"]


def test_the_readme_has_no_setting_that_does_not_exist() -> None:
    assert set(re.findall(r"DIMPLE_[A-Z_]+", README + DOCUMENT)) <= set(NAMES)
