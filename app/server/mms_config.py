"""Multi Model Server's configuration: files, keys, and the settings they correspond to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from app.errors import LaunchError, SettingError

BLANKS = " \t\f"
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
SEPARATED = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
"""The key ends at the first ``=``, ``:`` or blank that has no backslash before it; the rest is the value."""
ESCAPED = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.?))", re.DOTALL)


def read_properties(path: Path) -> dict[str, str]:
    """Read a properties file; the last value of a repeated key counts.

    Java reads Latin-1. A file in UTF-8, as today's editors write it, is read as UTF-8.

    :raises LaunchError: if the file cannot be read.
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
    """Parse the text of a properties file.

    :param name: name of the file in error messages.
    :raises LaunchError: if ``\\u`` is not followed by four hexadecimal digits.
    """
    properties = {}
    for line in _logical_lines(text):
        match = SEPARATED.fullmatch(line)
        assert match, "the pattern matches every line"
        key, value = (_unescaped(part, name) for part in match.groups())
        properties[key] = value
    return properties


def _logical_lines(text: str) -> Iterator[str]:
    """Yield lines without comments and blank lines; a line that ends with a backslash is joined to the next."""
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


DEFAULT_MINUTES = 120
MAX_BYTES = 6553500
PLAIN = {
    "default_service_handler": "default_service_handler",
    "blacklist_env_vars": "blacklist_env_vars",
    "cors_allowed_origin": "cors_allowed_origin",
    "cors_allowed_methods": "cors_allowed_methods",
    "cors_allowed_headers": "cors_allowed_headers",
}
NUMBERS = {
    "default_workers_per_model": ("default_workers_per_model", 0),
    "job_queue_size": ("job_queue_size", 1),
    "unregister_model_timeout": ("unregister_timeout", 0),
    "max_request_size": ("max_request_bytes", 1),
    "max_response_size": ("max_response_bytes", 1),
    "number_of_gpu": ("number_of_gpu", 0),
    "metric_time_interval": ("metric_interval", 1),
}
"""Setting and minimum value of each key."""
ELSEWHERE = (
    "inference_address",
    "management_address",
    "model_store",
    "load_models",
    "default_response_timeout",
    "default_response_timeout_seconds",
    "decode_input_request",
    "private_key_file",
    "certificate_file",
    "keystore",
    "keystore_pass",
    "keystore_type",
)
"""Keys that need more than one line to parse."""
OWN = ("management_without_token",)
"""Keys that MMS does not have."""
WITHOUT_MEANING = (
    "preload_model",
    "async_logging",
    "debug",
    "number_of_netty_threads",
    "netty_client_threads",
    "prefer_direct_buffer",
)
"""Keys that are accepted, because configurations contain them, but have no equivalent here."""
JAVA_ONLY = (
    "use_native_io",
    "io_ratio",
    "vmargs",
    "plugins_path",
    "model_server_home",
)
"""Keys as in :data:`WITHOUT_MEANING`, but never read from the environment."""
ENVIRONMENT_KEYS = tuple(
    key for key in (*PLAIN, *NUMBERS, *ELSEWHERE, *OWN, *WITHOUT_MEANING) if key != "metric_time_interval"
)
"""Keys that ``MMS_<KEY>`` overrides if ``enable_envvars_config`` is set."""
KNOWN = {*PLAIN, *NUMBERS, *ELSEWHERE, *WITHOUT_MEANING, *JAVA_ONLY, "enable_envvars_config"}


def settings_of(configuration: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that map directly; addresses, the model store and certificates are handled elsewhere.

    :raises SettingError: if a value is not a number, or is too low.
    """
    values: dict[str, Any] = {setting: configuration.get(key, "") for key, setting in PLAIN.items()}
    values |= {"max_request_bytes": MAX_BYTES, "max_response_bytes": MAX_BYTES}
    for key, (setting, low) in NUMBERS.items():
        if configuration.get(key):
            values[setting] = number(key, configuration[key], low)
    if without_token := configuration.get("management_without_token"):
        values["management_without_token"] = without_token.lower() == "true"
    values["decode_input_request"] = configuration.get("decode_input_request", "true").lower() == "true"
    values["response_timeout"] = response_seconds(configuration)
    return values


def response_seconds(configuration: Mapping[str, str]) -> int:
    """Return a model's response timeout in seconds. ``default_response_timeout`` is in minutes, contrary to MMS's
    documentation."""
    if text := configuration.get("default_response_timeout_seconds"):
        return number("default_response_timeout_seconds", text, 1)
    text = configuration.get("default_response_timeout") or str(DEFAULT_MINUTES)
    return 60 * number("default_response_timeout", text, 1)


def number(key: str, text: str, low: int) -> int:
    """Parse a whole number.

    :raises SettingError: if the text is not a whole number, or is lower than ``low``.
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise SettingError(key, text, f"a whole number of at least {low}")
    return value


def unknown(configuration: Mapping[str, str]) -> list[str]:
    """Return the keys that Multi Model Server does not know either."""
    return sorted(set(configuration) - KNOWN - set(OWN))


def meaningless(configuration: Mapping[str, str]) -> list[str]:
    """Return the keys that are accepted but have no effect here."""
    return sorted(set(configuration) & {*WITHOUT_MEANING, *JAVA_ONLY})


DEFAULT_FILE = "config.properties"
VARIABLE = re.compile(r"\$\$([^$]+)\$\$")
SAGEMAKER = {
    "model_store": "SAGEMAKER_MODEL_STORE",
    "default_response_timeout": "SAGEMAKER_RESPONSE_TIMEOUT",
    "unregister_model_timeout": "SAGEMAKER_RESPONSE_TIMEOUT",
    "default_workers_per_model": "SAGEMAKER_NUM_MODEL_WORKERS",
    "default_service_handler": "SAGEMAKER_HANDLER",
    "max_response_size": "SAGEMAKER_MAX_RESPONSE_SIZE",
    "max_request_size": "SAGEMAKER_MAX_REQUEST_SIZE",
}
"""Environment variables of SageMaker's containers for the values of the built-in file ``sagemaker``."""


def read_configuration(named: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the configuration from the file of ``MMS_CONFIG_FILE``, the named file, or ``./config.properties``, if any.

    :param named: value of ``--mms-config``: a file, or ``sagemaker`` for the built-in one.
    :returns: values by key. ``$$NAME$$`` is replaced from the environment; ``MMS_<KEY>`` overrides a value if the file
        has ``enable_envvars_config=true``.
    :raises LaunchError: if the file or an environment variable that it uses is missing.
    """
    named = environ.get("MMS_CONFIG_FILE") or named
    if named == "sagemaker":
        properties = _sagemaker(environ)
    elif named:
        if not Path(named).is_file():
            raise LaunchError(f"--mms-config file not found: {named}")
        properties = read_properties(Path(named))
    else:
        properties = read_properties(Path(DEFAULT_FILE)) if Path(DEFAULT_FILE).is_file() else {}
    properties = {key: _with_variables(value, environ).strip() for key, value in properties.items()}
    if properties.get("enable_envvars_config", "").lower() == "true":
        properties |= {key: environ[name] for key in ENVIRONMENT_KEYS if (name := f"MMS_{key.upper()}") in environ}
    return properties


def _sagemaker(environ: Mapping[str, str]) -> dict[str, str]:
    address = f"http://0.0.0.0:{environ.get('SAGEMAKER_BIND_TO_PORT', '8080')}"
    values = {key: environ[name] for key, name in SAGEMAKER.items() if environ.get(name)}
    return {
        "inference_address": address,
        "management_address": address,
        "management_without_token": "true",  # only SageMaker can reach its containers, and it has no tokens
        "decode_input_request": "false",
        "async_logging": "true",
    } | values


def _with_variables(value: str, environ: Mapping[str, str]) -> str:
    def substitute(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise LaunchError(f"Invalid configuration: Invalid Environment Variable {match[1]}")
        return environ[match[1]]

    return VARIABLE.sub(substitute, value)


LEVELS = {"trace": "debug", "all": "debug", "warn": "warning", "fatal": "error", "off": "error"}
KNOWN_LEVELS = ("debug", "info", "warning", "error")
FILES = {
    "access_log": "access_log",
    "mms_log": "log_file",
    "mms_metrics": "server_metrics_log",
    "model_metrics": "model_metrics_log",
}
"""Settings of the log files, by the names of the appenders in MMS's own configuration."""
MMS_LOGGERS = ("ACCESS_LOG", "MMS_METRICS", "MODEL_", "com.amazonaws.ml.mms", "org.apache", "io.netty")
"""Loggers of MMS's own configuration."""
LOG4J_OPTIONS = ("-Dlog4j.configurationFile", "-Dlog4j2.configurationFile", "-Dlog4j.configuration")
LOOKUP = re.compile(r"\$\{(?:env|sys):([^:}]+)(?::-([^}]*))?\}")


def java_options(configuration: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Read the keys ``vmargs`` and ``plugins_path``, which Multi Model Server passes to Java.

    :returns: the log4j2 file that ``-Dlog4j.configurationFile`` names, or None, and messages about ignored options.
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

    :returns: settings, and messages about the ignored parts of the file.
    :raises LaunchError: if the file cannot be read.
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
        values |= _apply_logger(element, environ, ignored)
    followed = f"the log4j file {path} is followed for the level and the places of the files; lines look as MMS's do"
    return values, [followed + (f", and these are left out: {', '.join(ignored)}" if ignored else "")]


def _apply_logger(element: ElementTree.Element, environ: Mapping[str, str], ignored: list[str]) -> dict[str, Any]:
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
        return {}  # MMS writes nothing to it
    if name not in FILES or not plain or "$" in plain:
        ignored.append(f"file {file}")
        return {}
    return {FILES[name]: Path.cwd() / plain}
