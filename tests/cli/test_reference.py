"""The page of all commands."""

from __future__ import annotations

import subprocess
import sys

from app.cli.reference import reference
from app.settings import ROOT


def test_the_page_equals_the_help_of_the_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    # in a process of its own: Click keeps the help option of a command's first call, and other tests call commands
    written = subprocess.run([sys.executable, "-m", "app.cli.reference"], cwd=ROOT, capture_output=True, check=True)
    assert page == written.stdout.decode(), "write it anew: .venv/bin/python -m app.cli.reference > docs/cli.md"


def test_every_command_level_is_documented() -> None:
    heads = [line for line in reference().splitlines() if line.startswith("## ")]
    assert {"## dimple", "## dimple serve", "## dimple models", "## dimple models train"} <= set(heads)
    assert len(heads) == len(set(heads))
