"""Files of sections with ``key = value`` lines, read so that every mistake can be told with its place.

Format: ``[section]`` lines, ``key = value`` lines, and indented lines that continue the value above. A line that begins
with ``#`` or ``;`` is a comment. Python's own reader forgets the numbers of the lines, which the messages need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import SettingError


@dataclass(frozen=True)
class Value:
    """What stands behind a key, and where: ``catalogue.ini, line 12, [alexnet] sha1``."""

    text: str
    place: str

    def lines(self) -> tuple[str, ...]:
        """The value's lines that are not empty."""
        return tuple(line.strip() for line in self.text.splitlines() if line.strip())

    def wrong(self, expected: str) -> SettingError:
        """The error for a value that cannot be used."""
        return SettingError(self.place, self.text, expected)


@dataclass(frozen=True)
class Section:
    """A section's name, its place, and its values by their keys."""

    name: str
    place: str
    values: Mapping[str, Value] = field(default_factory=dict)


def read_sections(path: Path) -> dict[str, Section]:
    """Read a file's sections, by their names, in their order.

    :raises SettingError: with file and line, where the file cannot be read, a line is of none of the forms, or a
        section or a key is there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SettingError(str(path), error, "a text file in UTF-8 that can be read") from None
    sections: dict[str, Section] = {}
    values: dict[str, Value] = {}
    name, key = "", ""
    for number, line in enumerate(lines, 1):
        place = f"{path}, line {number}"
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        if line[0].isspace() and key:
            values[key] = Value(f"{values[key].text}\n{line.strip()}", values[key].place)
        elif header := re.fullmatch(r"\[([^\[\]]+)\]\s*", line):
            name, key, values = " ".join(header[1].split()), "", {}
            if name in sections:
                raise SettingError(place, line.strip(), "a section that is not there already")
            sections[name] = Section(name, f"{place}, [{name}]", values)
        elif sections and (pair := re.fullmatch(r"([A-Za-z]\w*)\s*=\s*(.*)", line)):
            key = pair[1].lower()
            if key in values:
                raise SettingError(f"{place}, [{name}] {key}", pair[2], f"given once; it is in {values[key].place} too")
            values[key] = Value(pair[2].strip(), f"{place}, [{name}] {key}")
        else:
            raise SettingError(place, line.strip()[:80], "a [section], or below one a line 'key = value'")
    return sections
