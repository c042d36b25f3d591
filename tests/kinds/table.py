"""Table of the kinds of model files in docs/rescue.md, collected from the tests that compare each with a reference.

``make rescue-matrix`` runs these tests and writes the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import ROOT

DOCUMENT = ROOT / "docs" / "rescue.md"
BEGIN, END = "<!-- model files table: begin -->", "<!-- model files table: end -->"


@dataclass(frozen=True)
class Row:
    """A row: a kind of file, what it was made by, the reference, and the largest difference of a probability or its
    place.
    """

    kind: str
    made_by: str
    reference: str
    outcome: str


class Table:
    """The rows of the tests that have passed."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, kind: str, made_by: str, reference: str, difference: float | str) -> None:
        """Add a row; a difference below 1e-9 is written as 0."""
        if isinstance(difference, float):
            difference = "0" if difference < 1e-9 else f"{difference:.0e}"
        self.rows.append(Row(kind, made_by, reference, difference))

    def write(self, path: Path) -> None:
        """Write the rows between the marks of a document."""
        lines = ["| kind of file | made by | reference | largest difference |", "| --- | --- | --- | --- |"]
        rows = sorted(self.rows, key=lambda row: (row.kind.partition(":")[0], row.kind))
        lines += [f"| {row.kind} | {row.made_by} | {row.reference} | {row.outcome} |" for row in rows]
        before, mark, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        assert mark, f"{path} has no mark {BEGIN}"
        after = rest.partition(END)[2]
        path.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    """Yield the rows of this run, written to the document at its end if WRITE asks for it."""
    collected = Table()
    yield collected
    if os.environ.get("WRITE"):
        collected.write(DOCUMENT)
