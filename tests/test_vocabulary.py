"""The names in the code, which use the glossary of CONTRIBUTING.md, not participles in place of nouns."""

from __future__ import annotations

import tokenize
from pathlib import Path

import pytest

from app.settings import ROOT

BANNED = {"told", "asked", "said", "shown", "wanted"}
FOREIGN = ROOT / "app" / "handlers" / "runtime" / "mms"  # MMS's own names
PACKAGES = {path.parent for top in ("app", "bench", "fuzz", "tests") for path in (ROOT / top).rglob("*.py")}


@pytest.mark.parametrize("package", sorted(path for path in PACKAGES if not path.is_relative_to(FOREIGN)))
def test_no_name_is_a_participle_used_as_a_noun(package: Path) -> None:
    violations = []
    for path in package.glob("*.py"):
        file = path.relative_to(ROOT).as_posix()
        with path.open("rb") as stream:
            for token in tokenize.tokenize(stream.readline):
                if token.type != tokenize.NAME or token.string.startswith("test_"):  # tests are named by sentences
                    continue
                if BANNED.intersection(token.string.lower().split("_")):
                    violations.append((file, token.string, token.start[0]))
    assert violations == []
