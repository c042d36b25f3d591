"""``docs/reliability.md``: the end of every request, and the time until all was as before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.perf.document import table, write_between
from bench.reliability.fault import Row, Size

MARKERS = ("<!-- reliability: start; written by make reliability -->", "<!-- reliability: end -->")
HEAD = (
    "fault", "load", "sent", "answered", "refused by contract", "cut off, answered on retry", "lost",
    "time to recovery (s)", "longest answer (s)", "holds",
)  # fmt: skip


def text(rows: Sequence[Row], size: Size, machine: Mapping[str, str], date: str) -> str:
    """Return the tables, and the notes."""
    facts = "".join(f"| {name} | {value} |\n" for name, value in machine.items())
    load = f"{size.clients} clients"
    cells = [
        (
            row.name, load, f"{row.sent:,}", f"{row.answered:,}", f"{row.refused:,}", f"{row.cut:,}", f"{row.lost:,}",
            f"{row.recovery:.1f}", f"{row.slowest:.2f}", "yes" if row.holds else "**no**",
        )
        for row in rows
    ]  # fmt: skip
    notes = "".join(f"- {row.name}: {'; '.join(row.notes)}.\n" for row in rows if row.notes)
    failed = "".join(f"- {row.name}: {row.failed or row.samples}\n" for row in rows if not row.holds)
    return (
        f"\n| | |\n|---|---|\n{facts}| date | {date} |\n\n{table(HEAD, cells)}\n{notes}"
        + (f"\nWhat does not hold:\n\n{failed}" if failed else "")
        + "\n"
    )


def write(path: Path, rows: Sequence[Row], size: Size, machine: Mapping[str, str], date: str) -> None:
    """Put the tables into the document."""
    write_between(path, MARKERS, text(rows, size, machine, date))
