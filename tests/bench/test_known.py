"""Declared differences between the servers, which explain what was found or are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.parity.compare import Difference
from bench.parity.known import Known, Place, judge, read_known

SERVER = Known("server", "none", "sends it", "why not", (Place("*", "header server", "(absent)"),))
EMPTY = Known("empty", "503", "400", "honest", (Place("archives.*-empty", "status", "503", "400"),))
HEADER = Difference("routes.ping", "header server", "(absent)", "gunicorn")
STATUS = Difference("archives.legacy-empty", "status", "503", "400")


def test_declared_differences_pass() -> None:
    verdict = judge([HEADER, STATUS], [SERVER, EMPTY])
    assert verdict.passed
    assert verdict.explained == {"server": [HEADER], "empty": [STATUS]}


def test_an_undeclared_difference_fails() -> None:
    verdict = judge([HEADER, STATUS], [SERVER])
    assert verdict.undeclared == [STATUS]
    assert not verdict.passed


def test_a_declaration_excuses_only_the_values_that_it_names() -> None:
    worse = Difference("archives.legacy-empty", "status", "503", "500")
    assert judge([STATUS, worse], [EMPTY]).undeclared == [worse]


def test_a_declaration_that_matches_no_difference_fails() -> None:
    verdict = judge([HEADER], [SERVER, EMPTY])
    assert verdict.gone == [("empty", EMPTY.places[0])]
    assert not verdict.passed


def test_every_place_of_a_declaration_must_match_a_difference() -> None:
    two = Known("server", "none", "sends it", "", (*SERVER.places, Place("routes.*", "header date")))
    assert [place.aspect for _, place in judge([HEADER], [two]).gone] == ["header date"]


def test_a_partial_run_ignores_declarations_that_match_no_difference() -> None:
    assert judge([HEADER], [SERVER, EMPTY], ran=[]).passed


def test_a_difference_may_match_two_declarations() -> None:
    all_headers = Known("headers", "", "", "", (Place("*", "header *"),))
    verdict = judge([HEADER], [SERVER, all_headers])
    assert verdict.passed
    assert verdict.explained == {"server": [HEADER], "headers": []}


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("body.workers.*.pid", "body.workers.12.pid", True),
        ("body.workers.*.pid", "body.workers.12.id", False),
        ("{'a': [1]}", "{'a': [1]}", True),  # as fnmatch reads it, [1] would be a set of characters
        ("ab?", "abc", False),
        ("*", "two\nlines", True),
        ("", "anything", False),
        ("ab", "abc", False),
    ],
)
def test_only_the_star_is_special(pattern: str, text: str, fits: bool) -> None:
    assert Place("*", "body", pattern).fits(Difference("a.b", "body", text, "")) is fits


def declared(path: Path, **changes: object) -> Path:
    one = {"id": "x", "mms": "a", "dimple": "b", "because": "c", "where": [{"check": "*", "aspect": "status"}]}
    path.write_text(json.dumps([one, {**one, "id": "y", **changes}]))
    return path


def test_the_file_is_read(tmp_path: Path) -> None:
    first, second = read_known(declared(tmp_path / "known.json"))
    assert (first.id, second.id, first.places) == ("x", "y", (Place("*", "status"),))


def test_two_declarations_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two differences are called x"):
        read_known(declared(tmp_path / "known.json", id="x"))


def test_a_declaration_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="y shows nowhere"):
        read_known(declared(tmp_path / "known.json", where=[]))
