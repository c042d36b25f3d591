"""Cases that showed a fault: ``<findings>/<target>/<kind>``, the smallest of each kind, with a text file beside it."""

from __future__ import annotations

import re
from pathlib import Path

from app.utils.files import atomic_write
from fuzz.oracle import Fault
from fuzz.target import Target


def save_finding(findings: Path, target: Target, fault: Fault, data: bytes) -> None:
    """Save a case, unless there is one of its kind that is not larger."""
    folder = findings / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.\-]", "_", fault.kind)[:100] + target.suffix)
    if path.exists() and path.stat().st_size <= len(data):
        return
    atomic_write(path, data)
    path.with_name(path.name + ".txt").write_text(fault.text, encoding="utf-8", errors="backslashreplace")


def list_findings(findings: Path, name: str) -> list[Path]:
    """Return the saved cases of a target."""
    folder = findings / name
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix != ".txt" and not path.name.startswith("."))
