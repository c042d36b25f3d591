"""What can be followed of a log4j2 configuration: the root's level, and where Multi Model Server's files lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from app.errors import LaunchError

LEVELS = {"trace": "debug", "all": "debug", "warn": "warning", "fatal": "error", "off": "error"}
KNOWN_LEVELS = ("debug", "info", "warning", "error")
FILES = {
    "access_log": "access_log",
    "mms_log": "log_file",
    "mms_metrics": "server_metrics_log",
    "model_metrics": "model_metrics_log",
}
"""Settings of the files, by the names that MMS's own configuration gives their appenders."""
MMS_LOGGERS = ("ACCESS_LOG", "MMS_METRICS", "MODEL_", "com.amazonaws.ml.mms", "org.apache", "io.netty")
"""Loggers that MMS's own configuration has."""
LOG4J_OPTIONS = ("-Dlog4j.configurationFile", "-Dlog4j2.configurationFile", "-Dlog4j.configuration")
LOOKUP = re.compile(r"\$\{(?:env|sys):([^:}]+)(?::-([^}]*))?\}")


def java_options(configuration: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Read the keys ``vmargs`` and ``plugins_path``, which Multi Model Server hands to Java.

    :returns: the log4j2 file that ``-Dlog4j.configurationFile`` names, None if there is none, and what is not followed.
    """
    file, ignored = None, []
    for option in configuration.get("vmargs", "").split():
        name, _, value = option.partition("=")
        if name in LOG4J_OPTIONS:
            file = unquote(urlsplit(value).path) if value.startswith("file:") else value
        elif name.startswith("-D"):
            ignored.append(f"vmargs: {option} is not followed: it is a property of Java")
    if file is not None and not Path(file).is_file():
        ignored.append(f"vmargs: the log4j file {file} is not there")
        file = None
    if plugins := configuration.get("plugins_path"):
        ignored.append(f"plugins_path={plugins} is not followed: plugins are Java classes")
    return file, ignored


def read_log4j(path: Path, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Read a log4j2 file.

    :returns: settings, and what of the file is not followed.
    :raises LaunchError: where it cannot be read.
    """
    if path.suffix.lower() != ".xml":
        return {}, [f"the log4j file {path} is not followed: only log4j2's XML can be read"]
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise LaunchError(f"The log4j file {path} cannot be read: {error}") from None
    values: dict[str, Any] = {}
    ignored: list[str] = []
    for element in root.iter():
        values |= _followed(element, environ, ignored)
    followed = f"the log4j file {path} is followed for the level and the places of the files; lines look as MMS's do"
    return values, [followed + (f", and these are left out: {', '.join(ignored)}" if ignored else "")]


def _followed(element: ElementTree.Element, environ: Mapping[str, str], ignored: list[str]) -> dict[str, Any]:
    kind, name = element.tag.rpartition("}")[2].lower(), element.get("name", "")
    if kind == "root":
        return _level(element.get("level", "info"), ignored)
    if kind == "logger" and not name.startswith(MMS_LOGGERS):
        ignored.append(f"logger {name}")
    if element.get("fileName"):
        return _file(element, environ, ignored)
    return {}


def _level(text: str, ignored: list[str]) -> dict[str, Any]:
    level = LEVELS.get(text.lower(), text.lower())
    if level in KNOWN_LEVELS:
        return {"log_level": level}
    ignored.append(f"level {text}")
    return {}


def _file(element: ElementTree.Element, environ: Mapping[str, str], ignored: list[str]) -> dict[str, Any]:
    name, file = element.get("name", ""), element.get("fileName", "")
    plain = LOOKUP.sub(lambda found: environ.get(found[1], found[2] or ""), file)
    if name == "model_log":
        return {}  # nothing is written there
    if name not in FILES or not plain or "$" in plain:
        ignored.append(f"file {file}")
        return {}
    return {FILES[name]: Path.cwd() / plain}
