"""Examples of the documentation of ``java.util.Properties.load``, and what its rules say of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import LaunchError
from app.launch.properties import parse_properties, read_properties


@pytest.mark.parametrize(
    "line", ["Truth = Beauty", "  Truth:Beauty", "Truth\t\t\t:Beauty", "Truth Beauty", "Truth\fBeauty"]
)
def test_key_and_value_are_parted_by_equals_colon_or_blanks(line: str) -> None:
    assert parse_properties(line) == {"Truth": "Beauty"}


def test_a_backslash_at_the_end_joins_lines_and_the_blanks_before_the_next_go() -> None:
    text = "fruits                           apple, banana, pear, \\\n    cantaloupe, watermelon, \\\n    kiwi, mango"
    assert parse_properties(text) == {"fruits": "apple, banana, pear, cantaloupe, watermelon, kiwi, mango"}


def test_a_key_alone_has_an_empty_value() -> None:
    assert parse_properties("cheeses") == {"cheeses": ""}


def test_escaped_separators_belong_to_the_key() -> None:
    assert parse_properties(r"\:\= = x") == {":=": "x"}
    assert parse_properties(r"a\ b=c") == {"a b": "c"}


def test_only_the_first_separator_counts() -> None:
    assert parse_properties("a = = b:c") == {"a": "= b:c"}
    assert parse_properties("inference_address=http://0.0.0.0:8080") == {"inference_address": "http://0.0.0.0:8080"}


def test_escapes_of_values() -> None:
    assert parse_properties(r"a=\t|\n|\r|\f|\u00e9|\\|\z|\"") == {"a": '\t|\n|\r|\f|é|\\|z|"'}


def test_an_even_number_of_backslashes_joins_nothing() -> None:
    assert parse_properties("a=b\\\\\nc=d") == {"a": "b\\", "c": "d"}


def test_comments_and_blank_lines_are_passed_over_and_a_comment_is_never_continued() -> None:
    assert parse_properties("# a=1\\\nb=2\n   ! c=3\n \t\n\r\nd=4\re=5") == {"b": "2", "d": "4", "e": "5"}


def test_a_line_that_goes_on_may_begin_as_a_comment_does() -> None:
    assert parse_properties("a=1,\\\n  #2") == {"a": "1,#2"}


def test_blanks_at_the_end_belong_to_the_value_and_the_last_of_equal_keys_counts() -> None:
    assert parse_properties("a=1\na=2  ") == {"a": "2  "}


def test_a_broken_escape_is_refused() -> None:
    with pytest.raises(LaunchError, match="four hexadecimal digits"):
        parse_properties(r"a=\u12g4")


def test_latin_1_and_utf_8_files_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    for encoding in ("latin-1", "utf-8"):
        path.write_bytes("model_store=modèles".encode(encoding))
        assert read_properties(path) == {"model_store": "modèles"}
