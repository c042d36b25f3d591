"""``docs/reliability.md``: what became of every request, and how long it took until all was as before."""

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
    """The tables, and what happened beside."""
    facts = "".join(f"| {name} | {value} |\n" for name, value in machine.items())
    load = f"{size.clients} clients"
    cells = [
        (
            one.name, load, f"{one.sent:,}", f"{one.answered:,}", f"{one.refused:,}", f"{one.cut:,}", f"{one.lost:,}",
            f"{one.recovery:.1f}", f"{one.slowest:.2f}", "yes" if one.holds else "**no**",
        )
        for one in rows
    ]  # fmt: skip
    notes = "".join(f"- {one.name}: {'; '.join(one.notes)}.\n" for one in rows if one.notes)
    failed = "".join(f"- {one.name}: {one.failed or one.samples}\n" for one in rows if not one.holds)
    return (
        f"\n| | |\n|---|---|\n{facts}| date | {date} |\n\n{table(HEAD, cells)}\n{notes}"
        + (f"\nWhat does not hold:\n\n{failed}" if failed else "")
        + "\n"
    )


def write(path: Path, rows: Sequence[Row], size: Size, machine: Mapping[str, str], date: str) -> None:
    """Put the tables into the document."""
    write_between(path, MARKERS, text(rows, size, machine, date))
