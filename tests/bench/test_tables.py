"""The table of the documentation, which is made from the declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import ROOT
from bench.parity.known import Known, read_known
from bench.parity.tables import END, START, columns, markdown, write_table, written

KNOWN = [Known("a", "`x | y`", "two\nlines", "because", ()), Known("b", "m", "d", "", ())]
TABLE = "| MMS | Dimple | because |\n|---|---|---|\n| `x \\| y` | two lines | because |\n| m | d |  |\n"


def test_the_table_has_a_row_for_each_declared_difference() -> None:
    assert markdown(KNOWN) == TABLE


def test_only_the_text_between_the_markers_is_replaced() -> None:
    assert written(f"before\n{START}\nold\n{END}\nafter\n", "new\n") == f"before\n{START}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("document", ["no markers", START, END, f"{END}\n{START}", f"{START}\n{END}\n{START}\n{END}"])
def test_a_document_without_both_markers_is_refused(tmp_path: Path, document: str) -> None:
    path = tmp_path / "document.md"
    path.write_text(document)
    with pytest.raises(ValueError, match="must have, once each"):
        write_table(path, KNOWN)
    assert path.read_text() == document


def test_writing_a_table_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "document.md"
    path.write_text(f"# Title\n\n{START}\n{END}\n")
    assert write_table(path, KNOWN)
    assert path.read_text() == f"# Title\n\n{START}\n{TABLE}{END}\n"
    assert not write_table(path, KNOWN)
    assert [file.name for file in tmp_path.iterdir()] == ["document.md"]


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    assert columns([["suite", "checks"], ["a", "12"], ["longer one", "1,234"]]) == (
        "suite       checks\na               12\nlonger one   1,234"
    )


def test_the_documentation_has_the_table_of_declared_differences() -> None:
    document = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    assert written(document, markdown(read_known())) == document
