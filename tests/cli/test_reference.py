"""The page of all commands."""

from __future__ import annotations

from app.cli.reference import reference
from app.settings import ROOT


def test_the_page_is_what_the_commands_say() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "write it anew: .venv/bin/python -m app.cli.reference > docs/cli.md"


def test_every_level_is_there() -> None:
    heads = [line for line in reference().splitlines() if line.startswith("## ")]
    assert {"## dimple", "## dimple serve", "## dimple models", "## dimple models train"} <= set(heads)
    assert len(heads) == len(set(heads))
