"""Multi Model Server's command line and configuration, translated to a Dimple server."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import LaunchError
from app.security.authorization import check_exposed_management
from app.server.addresses import Address, parse_address
from app.server.certificates import certificate_files, server_context
from app.server.daemon import Launch
from app.server.mms_config import java_options, meaningless, read_configuration, read_log4j, settings_of, unknown
from app.settings import read_settings, to_environment

log = logging.getLogger(__name__)

URL = re.compile(r"https?://", re.IGNORECASE)


def split_models(text: str) -> list[str]:
    """Split a comma-separated list of models."""
    return [part.strip() for part in text.split(",") if part.strip()]


def load_models(values: Sequence[str], store: Path | None) -> str:
    """Return the value of the setting ``load_models``.

    :param values: ``ALL``, or one ``[NAME=]LOCATION`` per model.
    :param store: model store, searched for a location before the current folder.
    :raises LaunchError: if ``ALL`` is used without a store, or a location does not exist.
    """
    if any(value.upper() == "ALL" for value in values):
        if store is None:
            raise LaunchError("ALL needs a folder of models: name it with --model-store, or set model_store.")
        return "ALL"
    return ",".join(_absolute_source(value, store) for value in values)


def _absolute_source(value: str, store: Path | None) -> str:
    """Return ``[NAME=]LOCATION`` with a location that does not depend on the current folder."""
    name, equals, location = value.rpartition("=") if not URL.match(value) else ("", "", value)
    if URL.match(name.partition("=")[2]):  # the URL contains a =
        name, equals, location = value.partition("=")
    if location.lower().startswith("s3://"):
        raise LaunchError(f"{location}: s3:// cannot be fetched. Name the https:// address of the same object.")
    if not URL.match(location) and not (store and (store / location).exists()):
        path = Path.cwd() / location
        if store is None and not path.exists():
            raise LaunchError(f"There is no model {location} here. Name it from this folder, or name a --model-store.")
        location = str(path) if path.exists() else location
    if "," in location:
        raise LaunchError(f"{location}: the name of a model that is loaded at start cannot have a comma.")
    return f"{name}{equals}{location}"


EMPTY_LOGS = ("model_log.log",)
"""Files that MMS creates but never writes to."""


@dataclass(frozen=True)
class Flags:
    """The options of the command line. Missing options are None or empty.

    :param host: from the 0.4 server, as are ``port``, ``gpu`` and ``log_level``.
    """

    model_store: str | None = None
    models: Sequence[str] = ()
    mms_config: str | None = None
    log_config: str | None = None
    foreground: bool = False
    host: str | None = None
    port: int | None = None
    gpu: int | None = None
    log_level: str | None = None
    log_file: str | None = None


@dataclass(frozen=True)
class LaunchPlan:
    """A server that is about to start, and warnings for its user."""

    launch: Launch
    warnings: list[str] = field(default_factory=list)


def pid_file() -> Path:
    """Return the path of the server's pid file. As in Multi Model Server, there is one server per temporary folder."""
    return Path(tempfile.gettempdir()) / ".model_server.pid"


def plan_launch(flags: Flags, environ: Mapping[str, str], instance_dir: Path) -> LaunchPlan:
    """Derive a server's settings from the command line, the configuration file and the environment.

    :param instance_dir: parent of the server's own folder for its persistent state.
    :raises LaunchError: if a file or folder is missing, a file is invalid, or management would be open to everybody.
    :raises SettingError: if a value is invalid.
    """
    _check(flags, environ)
    configuration = read_configuration(flags.mms_config, environ)
    inference, management = _addresses(configuration, flags)
    store, models, warnings = _models(flags, configuration)
    state = instance_dir / "mms" / _state_name(store, inference)
    values = settings_of(configuration) | _listening(inference, management)
    values |= {
        "models_dir": store or state / "models",
        "instance_dir": state,
        "cache_dir": instance_dir / "cache",
        "tokens_file": read_settings(environ).tokens_file
        or instance_dir / "tokens.json",  # shared, as dimple token expects
        "shipped_models": False,
        "load_models": models,
    }
    if inference.https or management.https:
        files = certificate_files(configuration, state / "tls", (inference if inference.https else management).host)
        values |= dict(zip(("certificate_file", "private_key_file"), files, strict=True))
        warnings += filter(None, [server_context(*files)[1]])
    logs, ignored = _logs(flags, configuration, environ)
    values |= logs
    warnings += ignored
    device_environ: dict[str, str] = {}
    if flags.gpu is not None:
        values["number_of_gpu"], device_environ = 1, _only_gpu(flags.gpu, environ)
        warnings.append("--gpu is for services of archives; networks without one are computed on the processor")
    if strange := unknown(configuration):
        warnings.append(f"the configuration has unknown keys: {', '.join(strange)}")
    log.debug("accepted, without meaning here: %s", ", ".join(meaningless(configuration)))
    (state / "models").mkdir(parents=True, exist_ok=True)
    launch = Launch(
        environ={**environ, **device_environ, **to_environment(values)},
        pid_file=pid_file(),
        output=state / "output.log",
        log=values["log_file"],
    )
    source = f"management_address={configuration.get('management_address', '')}"
    check_exposed_management(
        read_settings(launch.environ), source, "management_without_token=true in the configuration file"
    )
    return LaunchPlan(launch, warnings)


def _models(flags: Flags, configuration: Mapping[str, str]) -> tuple[Path | None, str, list[str]]:
    """Return the model store, the setting ``load_models``, and warnings. As in MMS, models that a configuration file
    names but that do not exist do not prevent the start."""
    location = flags.model_store or configuration.get("model_store")
    store = Path(location).absolute() if location else None
    warnings = []
    if store is not None and not store.is_dir():
        warnings.append(
            f"The model store {store} is not there: nothing is loaded from it. Make it or correct model_store"
        )
    configured = split_models(configuration.get("load_models", ""))
    if store is None and any(item.upper() == "ALL" for item in configured):
        warnings.append("load_models=ALL, but there is no model_store: nothing is loaded")
        configured = []
    return store, load_models(flags.models or configured, store), warnings


def _check(flags: Flags, environ: Mapping[str, str]) -> None:
    if "TEMP" in environ and not Path(environ["TEMP"]).is_dir():
        raise LaunchError(f"Invalid temp directory: {environ['TEMP']}. Make it, or unset TEMP.")
    if flags.log_config and not Path(flags.log_config).is_file():
        raise LaunchError(f"--log-config file not found: {flags.log_config}")
    if flags.model_store and not Path(flags.model_store).is_dir():
        raise LaunchError(f"--model-store directory not found: {flags.model_store}")


def _only_gpu(number: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Restrict CUDA to one of its visible GPUs, which handlers then see as their first."""
    seen = environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = seen.split(",") if seen else []
    return {"CUDA_VISIBLE_DEVICES": devices[number].strip() if 0 <= number < len(devices) else str(number)}


def _addresses(configuration: Mapping[str, str], flags: Flags) -> tuple[Address, Address]:
    address = configuration.get("inference_address") or "http://127.0.0.1:8080"
    inference = parse_address("inference_address", address, 80, 443)
    if flags.host or flags.port:
        inference = Address(flags.host or inference.host, flags.port or inference.port, inference.https)
    address = configuration.get("management_address") or "http://127.0.0.1:8081"
    return inference, parse_address("management_address", address, 8081, 8444)


def _listening(inference: Address, management: Address) -> dict[str, Any]:
    # A Unix socket has no port. It gets a number nevertheless, because routes are distinguished by port.
    numbers = [item.port for item in (inference, management) if item.port]
    spare = (number for number in (8080, 8081, 8082) if number not in numbers)
    port = inference.port or next(spare)
    values: dict[str, Any] = {
        "host": inference.host,
        "port": port,
        "management_host": management.host,
        "management_port": port if management == inference else management.port or next(spare),
    }
    if inference.https != management.https:
        values["https"] = "inference" if inference.https else "management"
    return values


def _state_name(store: Path | None, inference: Address) -> str:
    """Return the name of a server's state folder, which differs between servers."""
    identity = f"{os.path.realpath(store) if store else ''}|{inference.host}|{inference.port}"
    return f"{store.name if store else 'no-store'}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def _logs(
    flags: Flags, configuration: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    logs = Path.cwd() / environ.get("LOG_LOCATION", "logs")
    metrics = Path.cwd() / environ.get("METRICS_LOCATION", "logs")
    values: dict[str, Any] = {
        "log_style": "mms",
        "log_file": logs / "mms_log.log",
        "access_log": logs / "access_log.log",
        "server_metrics_log": metrics / "mms_metrics.log",
        "model_metrics_log": metrics / "model_metrics.log",
        "log_console": flags.foreground,
    }
    file, warnings = java_options(configuration)
    if named := flags.log_config or file:
        levels, ignored = read_log4j(Path(named), environ)
        values |= levels
        warnings += ignored
    if flags.log_level:
        values["log_level"] = flags.log_level
    if flags.log_file:
        values["log_file"] = Path.cwd() / flags.log_file
    for file in EMPTY_LOGS:
        logs.mkdir(parents=True, exist_ok=True)
        (logs / file).touch()
    return values, warnings
