"""Java's ``.properties`` files, read as the documentation of ``java.util.Properties.load`` defines them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from app.errors import LaunchError

BLANKS = " \t\f"
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
SEPARATED = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
"""The key up to the first ``=``, ``:`` or blank without a backslash before it; the rest is the value."""
ESCAPED = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.?))", re.DOTALL)


def read_properties(path: Path) -> dict[str, str]:
    """Read a file of properties; of a key that stands twice, the last value counts.

    Java reads Latin-1. A file that is UTF-8, as editors write it today, is taken for what it is.

    :raises LaunchError: where it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LaunchError(f"The configuration file {path} cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return parse_properties(text, str(path))


def parse_properties(text: str, name: str = "properties") -> dict[str, str]:
    """Take the text of a file of properties apart.

    :param name: what the file is called in errors.
    :raises LaunchError: where ``\\u`` is not followed by four hexadecimal digits.
    """
    found = {}
    for line in _logical_lines(text):
        match = SEPARATED.fullmatch(line)
        assert match, "the pattern matches every line"
        key, value = (_unescaped(part, name) for part in match.groups())
        found[key] = value
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments and blank lines; one that ends with a backslash is joined to the next."""
    joined: str | None = None
    for natural in re.split(r"\r\n|\r|\n", text):
        line = natural.lstrip(BLANKS)
        if joined is None and (not line or line[0] in "#!"):
            continue
        joined = (joined or "") + line
        backslashes = len(joined) - len(joined.rstrip("\\"))
        if backslashes % 2:
            joined = joined[:-1]
        else:
            yield joined
            joined = None
    if joined is not None:
        yield joined


def _unescaped(text: str, name: str) -> str:
    def plain(match: re.Match[str]) -> str:
        digits, letter = match.groups()
        if digits:
            return chr(int(digits, 16))
        if letter == "u":
            raise LaunchError(rf"{name}: \u must be followed by four hexadecimal digits, in {text[:80]!r}")
        return ESCAPES.get(letter, letter)

    return ESCAPED.sub(plain, text)
