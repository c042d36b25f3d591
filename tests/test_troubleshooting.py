"""The texts that docs/troubleshooting.md quotes, which the code must have."""

from __future__ import annotations

import re

import pytest

from app.settings import ROOT

DOCUMENT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
OTHERS = (
    "truncated file",
    "libgomp.so.1",
    "bad marshal data",
    "has no attribute",
    "WWW-Authenticate",
    "/readyz",
    "GET /",
)
"""Texts of other programs, and what is no text."""


def quoted() -> list[str]:
    cells = re.findall(r"^\| (.*?) \| ", DOCUMENT, re.MULTILINE)
    texts = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    return [
        text for text in texts if " " in text and not text.startswith(OTHERS) and not re.search("has no attrib", text)
    ]


SOURCE = re.sub(
    r'"\s*\n\s*f?"', "", "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "app").rglob("*.py")))
)


@pytest.mark.parametrize("text", quoted())
def test_every_documented_message_is_in_the_code(text: str) -> None:
    for part in re.split(r"…|: ", text):
        assert part.strip() in SOURCE, f"no file of app/ has {part.strip()!r}: change docs/troubleshooting.md"


def test_the_document_has_enough_messages() -> None:
    assert len(quoted()) > 25
