"""The table of differences for the documentation, and the table of a run for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.parity.known import Known

START = "<!-- parity: start; written by make parity WRITE=1 out of bench/parity/differences.json -->"
END = "<!-- parity: end -->"


def markdown(known: Sequence[Known]) -> str:
    """Return the known differences as a table of Markdown."""
    rows = [(item.mms, item.dimple, item.because) for item in known]
    lines = ["| MMS | Dimple | because |", "|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def written(document: str, table: str) -> str:
    """Return a document with the table between its two markers.

    :raises ValueError: if the markers are not there, once each and in their order.
    """
    before, found, rest = document.partition(START)
    _, closed, after = rest.partition(END)
    if not found or not closed or START in after or END in after:
        raise ValueError(f"the document must have, once each, the lines\n{START}\n{END}")
    return f"{before}{START}\n{table}{END}{after}"


def write_table(path: Path, known: Sequence[Known]) -> bool:
    """Write the table into a document; return whether it had to be changed."""
    document = path.read_text(encoding="utf-8")
    new = written(document, markdown(known))
    if new == document:
        return False
    whole = path.with_name(path.name + ".new")
    whole.write_text(new, encoding="utf-8")
    whole.replace(path)
    return True


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns that are as wide as their longest cell; numbers are aligned on the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if cell.replace(",", "").isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
