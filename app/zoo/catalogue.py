"""The catalogue of models that can be fetched by name: ``catalogue.ini`` beside this file, and the user's own.

Format: ``[section]`` lines, ``key = value`` lines, and indented lines that continue the value above. A line that begins
with ``#`` or ``;`` is a comment. Python's ``configparser`` does not keep line numbers, which the error messages need.

The top of ``catalogue.ini`` describes the content of a section. A section of the user's own file replaces the section
of the same name in this one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from app.errors import ModelNotFound, SettingError
from app.formats.archive.manifest import NAME
from app.types import Preprocess


@dataclass(frozen=True)
class Value:
    """A key's value and its place in the file: ``catalogue.ini, line 12, [alexnet] sha1``."""

    text: str
    place: str

    def lines(self) -> tuple[str, ...]:
        """Return the value's non-empty lines."""
        return tuple(line.strip() for line in self.text.splitlines() if line.strip())

    def wrong(self, expected: str) -> SettingError:
        """Return the error for an invalid value."""
        return SettingError(self.place, self.text, expected)


@dataclass(frozen=True)
class Section:
    """A section's name, its place, and its values by key."""

    name: str
    place: str
    values: Mapping[str, Value] = field(default_factory=dict)


def read_sections(path: Path) -> dict[str, Section]:
    """Read a file's sections, by name and in file order.

    :raises SettingError: with file and line, if the file cannot be read, a line has none of the valid forms, or a
        section or a key occurs twice.
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


Kind = Literal["gluon", "checkpoint", "archive"]


@dataclass(frozen=True)
class Base:
    """A source of files: ``https://…``, ``file://…`` or a folder.

    If it is ``flat``, it holds the files without the folders of their paths.
    """

    location: str
    flat: bool = False


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 accuracy in per cent; None if no figure was published."""

    top1: float | None = None
    top5: float | None = None


@dataclass(frozen=True)
class Paper:
    """A network's publication and the accuracy reported in it."""

    title: str
    url: str
    accuracy: Accuracy


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be fetched.

    ``kind`` is ``gluon`` (parameters alone; ``network`` names their network), ``checkpoint`` (symbol and parameters) or
    ``archive`` (a model archive of MMS). ``files`` are paths below a base, the weights last. ``checksum`` is the
    checksum of the weights (unpacked, if ``kind`` is ``gluon``) as ``sha1:…`` or ``sha256:…``, empty if none was
    published. ``labels`` is ``imagenet``, ``cifar10``, ``none``, ``archive`` or one of ``files``. ``shape`` is the
    input's shape without the batch axis. ``accuracy`` is the figure that the publishers of these very weights measured.
    """

    name: str
    kind: Kind
    files: tuple[str, ...]
    bases: tuple[Base, ...]
    source: str
    network: str
    classes: int
    checksum: str
    licence: str
    labels: str
    shape: tuple[int, ...]
    preprocess: Preprocess
    parameters: int
    megabytes: float
    accuracy: Accuracy
    paper: Paper | None
    note: str
    aliases: tuple[str, ...]


FILE = Path(__file__).with_name("catalogue.ini")
OWN_FILE = "catalogue.ini"
"""The user's own catalogue, in the instance folder."""

PARTS = ("source", "input", "paper", "kind")
"""Kinds of sections that models refer to, such as ``[source x]``; every other section is a model."""
COMMON = (
    *("kind", "aliases", "source", "bases", "sha1", "sha256", "licence", "labels", "input", "parameters", "megabytes"),
    *("top1", "top5", "paper", "paper_top1", "paper_top5", "note"),
)
OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    "gluon": ("network", "classes", "file"),
    "checkpoint": ("symbol", "params"),
    "archive": ("file",),
}

HINTS = get_type_hints(Preprocess)
T = TypeVar("T")
Sections = dict[str, Section]


@dataclass(frozen=True)
class Catalogue:
    entries: Mapping[str, CatalogueEntry]

    def find(self, name: str) -> CatalogueEntry | None:
        """Return the model with a name or alias, in any letter case; None if there is none."""
        for entry in self.entries.values():
            if name.lower() in (entry.name.lower(), *(alias.lower() for alias in entry.aliases)):
                return entry
        return None

    def get(self, name: str) -> CatalogueEntry:
        """Return the model with a name or alias.

        :raises ModelNotFound: with the most similar names, if there is no such model.
        """
        entry = self.find(name)
        if entry is None:
            names = [*self.entries, *(alias for entry in self.entries.values() for alias in entry.aliases)]
            raise ModelNotFound(name, difflib.get_close_matches(name, names, 5, 0.5) or sorted(self.entries))
        return entry


def load_catalogue(instance_dir: Path) -> Catalogue:
    """Read the catalogue, and the user's own ``catalogue.ini`` in the instance folder if it exists.

    :raises SettingError: with file, line and key, if either holds an invalid value.
    """
    shipped, own = read_sections(FILE), instance_dir / OWN_FILE
    entries = _entries(shipped, shipped)
    if own.is_file():
        added = read_sections(own)
        entries |= _entries(added, shipped | added)
    return Catalogue(entries)


def resolve(name: str, instance_dir: Path) -> CatalogueEntry | None:
    """Return the catalogue's model with a name or alias; None if there is none.

    :raises SettingError: if the user's own catalogue is invalid.
    """
    return load_catalogue(instance_dir).find(name)


class _Fields:
    """The values of a section, with the values of its kind as defaults."""

    def __init__(self, section: Section, behind: Section | None, keys: tuple[str, ...]) -> None:
        self.values = {**(behind.values if behind else {}), **section.values}
        self.section = section
        for key, value in self.values.items():
            if key not in keys:
                raise SettingError(value.place, value.text, f"left out; known here are {', '.join(keys)}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key)
        if value is not None and value.text:
            return " ".join(value.lines())
        if default is None:
            raise SettingError(f"{self.section.place} {key}", value.text if value else "", "given")
        return default

    def number(self, key: str, kind: Callable[[str], T], default: T) -> T:
        return _number(self.values[key], kind) if key in self.values else default

    def refers(self, key: str, sections: Sections) -> Section | None:
        """Return the section ``[key x]`` if the value of ``key`` is ``x``."""
        value = self.values.get(key)
        if value is None:
            return None
        section = sections.get(f"{key} {value.text}")
        if section is None:
            known = ", ".join(name.split()[1] for name in sections if name.startswith(f"{key} "))
            raise value.wrong(f"the name of a section [{key} …]: {known}")
        return section

    def lines(self, key: str) -> tuple[str, ...]:
        return self.values[key].lines() if key in self.values else ()


def _entries(file: Sections, sections: Sections) -> dict[str, CatalogueEntry]:
    """Return the models of one file. A ``[kind …]`` section applies to the models of its own file; other references may
    name any of ``sections``."""
    models = [section for name, section in file.items() if name.split()[0] not in PARTS]
    return {section.name: _entry(section, file, sections) for section in models}


def _entry(section: Section, file: Sections, sections: Sections) -> CatalogueEntry:
    if not NAME.fullmatch(section.name):
        raise SettingError(section.place, section.name, "a model's name: letters, digits, '_', '-' and '.'")
    kind = _kind(section)
    own = _Fields(section, file.get(f"kind {kind}"), (*COMMON, *OF_KIND[kind]))
    if kind == "gluon":
        own.text("input")  # parameters alone do not determine it
    shape, preprocess = _input(own.refers("input", sections))
    checksum, files = _checksum(own), _files(own, kind)
    labels = own.text("labels", "none")
    if labels not in ("imagenet", "cifar10", "none", "archive"):
        files = (_path(own, "labels"), *files)
    parameters = own.number("parameters", _parse_int, 0)
    return CatalogueEntry(
        name=section.name,
        kind=kind,
        files=files,
        bases=_bases(own, sections),
        source=own.text("source", ""),
        network=own.text("network", section.name),
        classes=own.number("classes", _parse_int, {"cifar10": 10}.get(labels, 1000)),
        checksum=checksum,
        licence=own.text("licence", "not stated"),
        labels=labels,
        shape=shape,
        preprocess=preprocess,
        parameters=parameters,
        megabytes=own.number("megabytes", float, round(parameters * 4 / 1e6, 1)),
        accuracy=Accuracy(own.number("top1", _percent, None), own.number("top5", _percent, None)),
        paper=_paper(own, sections),
        note=own.text("note", ""),
        aliases=tuple(own.text("aliases", "").replace(",", " ").split()),
    )


def _kind(section: Section) -> Kind:
    value = section.values.get("kind", Value("", f"{section.place} kind"))
    for kind in get_args(Kind):
        if value.text == kind:
            return kind  # type: ignore[no-any-return]
    raise value.wrong(f"one of {', '.join(get_args(Kind))}")


def _checksum(own: _Fields) -> str:
    checksum = ""
    for algorithm, digits in (("sha1", 40), ("sha256", 64)):
        value = own.values.get(algorithm)
        if value is not None:
            if not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value.text):
                raise value.wrong(f"{digits} hexadecimal digits")
            checksum = f"{algorithm}:{value.text.lower()}"
    return checksum


def _files(own: _Fields, kind: Kind) -> tuple[str, ...]:
    if kind == "checkpoint":
        return _path(own, "symbol"), _path(own, "params")
    if kind == "gluon" and "file" not in own.values and "sha1" in own.values:
        # the path that mxnet.gluon.model_zoo requests from its repository
        return (f"gluon/models/{own.section.name.removeprefix('gluoncv-')}-{own.text('sha1')[:8]}.zip",)
    return (_path(own, "file"),)


def _path(own: _Fields, key: str) -> str:
    path = own.text(key)
    if path.startswith("/") or ".." in path.split("/") or "\\" in path or "://" in path:
        raise own.values[key].wrong("a path below a base, without '..'; the base goes into 'bases'")
    return path


def _bases(own: _Fields, sections: Sections) -> tuple[Base, ...]:
    source = own.refers("source", sections)
    listed = source.values.get("bases") if source else None
    if source is not None and (listed is None or not listed.lines()):
        raise SettingError(f"{source.place} bases", "", "at least one URL or folder, one a line")
    bases = tuple(Base(line) for line in listed.lines()) if listed else ()
    bases += tuple(Base(line, flat=True) for line in own.lines("bases"))
    for base in bases:
        scheme = base.location.partition("://")[0] if "://" in base.location else ""
        if scheme not in ("", "http", "https", "file"):
            value = own.values.get("bases") or listed
            assert value is not None
            raise value.wrong("URLs of http, https or file, or folders, one a line")
    if not bases:
        raise SettingError(f"{own.section.place} source", "", "the name of a section [source …], or 'bases' be given")
    return bases


def _paper(own: _Fields, sections: Sections) -> Paper | None:
    section = own.refers("paper", sections)
    if section is None:
        return None
    fields = _Fields(section, None, ("title", "url"))
    reported = Accuracy(own.number("paper_top1", _percent, None), own.number("paper_top5", _percent, None))
    return Paper(fields.text("title"), fields.text("url"), reported)


def _input(section: Section | None) -> tuple[tuple[int, ...], Preprocess]:
    """Read an ``[input …]`` section: the shape, and the fields of :class:`app.types.Preprocess`."""
    if section is None:
        return (), Preprocess()
    known = _Fields(section, None, ("shape", *(f.name for f in fields(Preprocess))))
    options = {key: _option(value, HINTS[key]) for key, value in known.values.items() if key != "shape"}
    text = known.text("shape")
    shape = tuple(_number(Value(part, known.values["shape"].place), _parse_int) for part in text.split(","))
    if len(shape) != 3 or min(shape) < 1:
        raise known.values["shape"].wrong("channels, height and width, such as 3, 224, 224")
    return shape, Preprocess(**options)


def _option(value: Value, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_number(Value(part, value.place), float) for part in value.text.split(","))
    if hint is bool:
        if value.text not in ("yes", "no"):
            raise value.wrong("yes or no")
        return value.text == "yes"
    if hint in (int, float):
        return _number(value, _parse_int if hint is int else float)
    if value.text not in get_args(hint):
        raise value.wrong(f"one of {', '.join(get_args(hint))}")
    return value.text


def _number(value: Value, kind: Callable[[str], T]) -> T:
    try:
        return kind(value.text)
    except ValueError:
        raise value.wrong("a per cent figure from 0 to 100" if kind is _percent else "a number, 0 or more") from None


def _parse_int(text: str) -> int:
    number = int(text.strip().replace(",", ""))
    if number < 0:
        raise ValueError(text)
    return number


def _percent(text: str) -> float | None:
    number = float(text)
    if not 0 <= number <= 100:
        raise ValueError(text)
    return number
