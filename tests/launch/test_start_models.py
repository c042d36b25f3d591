from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import LaunchError
from app.launch.start_models import load_models, split_models


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.mar").touch()
    (tmp_path / "smileCNN.model").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_is_all_however_it_is_written_and_nothing_is_nothing(here: Path) -> None:
    assert load_models(["all"], here / "store") == "ALL"
    assert load_models([], None) == ""
    assert split_models(" a.mar, b=b.mar,") == ["a.mar", "b=b.mar"]


def test_a_model_of_the_store_stays_relative_to_it_and_one_from_here_does_not(here: Path) -> None:
    told = ["first=a.mar", "smileCNN=smileCNN.model", "missing.mar"]
    assert load_models(told, here / "store") == f"first=a.mar,smileCNN={here}/smileCNN.model,missing.mar"


def test_urls_are_left_as_they_are(here: Path) -> None:
    urls = ["https://host/a.mar", "b=http://host/b.mar?x=1", "http://host/c.mar?x=1"]
    assert load_models(urls, None) == ",".join(urls)


def test_without_a_store_a_model_must_be_here() -> None:
    with pytest.raises(LaunchError, match=r"no model nowhere\.mar"):
        load_models(["x=nowhere.mar"], None)
    with pytest.raises(LaunchError, match="ALL models of which folder"):
        load_models(["ALL"], None)
