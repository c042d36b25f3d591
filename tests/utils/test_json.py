from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from app.utils.json import MAX_BYTES, parse_json, read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_a_file_is_read_in_every_encoding_of_json(encoding: str, tmp_path: Path) -> None:
    document = {"labels": ["Häßlich", "😀"], "n": [1, 2.5, None, True]}
    (tmp_path / "file.json").write_bytes(json.dumps(document, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "file.json") == document


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("most", [1, 5])
def test_depth_is_counted_in_lists_and_objects(opening: str, closing: str, most: int) -> None:
    deep = opening * most + "1" + closing * most
    parse_json(deep, most)
    with pytest.raises(ValueError, match=f"more than {most} lists and objects within each other"):
        parse_json(opening + deep + closing, most)


def test_a_depth_beyond_the_limit_of_python_is_refused_with_the_same_message() -> None:
    depth = 100 * sys.getrecursionlimit()
    with pytest.raises(ValueError, match="more than 200 lists and objects within each other"):
        parse_json("[" * depth + "]" * depth)


def test_a_file_that_is_too_long_is_not_parsed(tmp_path: Path) -> None:
    with (tmp_path / "file.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="longer than 67,108,864 bytes"):
        read_json(tmp_path / "file.json")


def test_half_of_a_surrogate_pair_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        parse_json('["\\ud800"]')
    assert parse_json('["\\ud800"]', allow_surrogates=True) == ["\ud800"]
    assert parse_json('["\\ud83d\\ude00"]') == ["😀"]


def test_the_caller_decides_how_to_parse_nan() -> None:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is refused")

    assert parse_json("[Infinity]") == [float("inf")]
    with pytest.raises(ValueError, match="-Infinity is refused"):
        parse_json("[-Infinity]", parse_constant=refuse)
