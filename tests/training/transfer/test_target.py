from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import BadParameter
from app.training.transfer.target import check_target


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", ".a", "a/b", "ä", "a" * 101])
def test_what_cannot_be_a_models_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="NAME="):
        check_target(name, tmp_path, force=True)


@pytest.mark.parametrize("name", ["imagenet", "smile", "dogcat", "DogCat"])
def test_what_dimple_ships_is_never_replaced(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="ships"):
        check_target(name, tmp_path, force=True)


@pytest.mark.parametrize("metrics", ["", "{", "[]", '{"how": "by hand"}'])
def test_a_model_of_another_origin_is_replaced_by_force_only(metrics: str, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "metrics.json").write_text(metrics)
    with pytest.raises(BadParameter, match="--force"):
        check_target("pets", tmp_path, force=False)
    check_target("pets", tmp_path, force=True)


def test_a_model_of_this_command_and_a_new_name_pass(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "metrics.json").write_text(json.dumps({"made_by": "flask models train"}))
    check_target("pets", tmp_path, force=False)
    check_target("others", tmp_path / "not-yet", force=False)


def test_a_file_or_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(BadParameter, match="no folder of its own"):
            check_target(name, tmp_path, force=True)
