"""The names of the application, which use the glossary of CONTRIBUTING.md, not participles in place of nouns."""

from __future__ import annotations

import tokenize
from pathlib import Path

import pytest

from app.settings import ROOT

BANNED = {"told", "asked", "said", "shown", "wanted"}
FOREIGN = ROOT / "app" / "handlers" / "runtime" / "mms"  # MMS's own names


@pytest.mark.parametrize("package", sorted({path.parent for path in (ROOT / "app").rglob("*.py")}))
def test_no_name_is_a_participle_used_as_a_noun(package: Path) -> None:
    found = []
    for path in package.glob("*.py"):
        if path.is_relative_to(FOREIGN):
            continue
        file = path.relative_to(ROOT).as_posix()
        with path.open("rb") as stream:
            for token in tokenize.tokenize(stream.readline):
                if token.type == tokenize.NAME and set(token.string.lower().split("_")) & BANNED:
                    found.append((file, token.string, token.start[0]))
    assert found == []
