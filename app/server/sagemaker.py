"""A server for SageMaker, which runs ``docker run IMAGE serve`` and configures it by environment variables.

Sources: Amazon SageMaker Developer Guide, "Custom Inference Code with Hosting Services" and "Custom Containers Contract
for Multi-Model Endpoints".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import SettingError
from app.server.daemon import Launch
from app.server.mms_config import number, read_configuration, settings_of
from app.settings import to_environment

BASE = "/opt/ml"
PORT, SAFE_PORTS = "SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_SAFE_PORT_RANGE"
WORKERS = ("SAGEMAKER_MODEL_SERVER_WORKERS", "SAGEMAKER_NUM_MODEL_WORKERS")
DEFAULT_PORT, MANAGEMENT_PORT = 8080, 8081
LARGEST_PORT = 65535


def is_multi_model(environ: Mapping[str, str]) -> bool:
    """Return whether SageMaker loads and unloads models while the server runs."""
    return environ.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"


def model_path(environ: Mapping[str, str]) -> Path:
    """Return the folder into which SageMaker has unpacked the endpoint's model."""
    return Path(environ.get("SAGEMAKER_MODEL_STORE") or Path(environ.get("SAGEMAKER_BASE_DIR") or BASE) / "model")


def launch(environ: Mapping[str, str], instance_dir: Path, is_model: bool) -> Launch:
    """Derive a server from SageMaker's environment. Variables named ``DIMPLE_…`` take precedence.

    :param is_model: whether :func:`model_path` is a model itself, rather than a folder of models or archives. If it
        does not exist, the server's own models are served.
    :raises SettingError: if a value is invalid.
    """
    port = _port(environ)
    configuration = read_configuration("sagemaker", environ)
    values: dict[str, Any] = settings_of(configuration) | {"host": "0.0.0.0", "port": port, "ping_status": True}
    if "default_response_timeout" not in configuration:
        del values["response_timeout"]  # MMS's default is two hours; SageMaker's limit for a request is 60 seconds
    workers = next((number(name, environ[name], 1) for name in WORKERS if environ.get(name)), 0)
    values["default_workers_per_model"] = workers
    values |= _many(port, workers) if is_multi_model(environ) else _one(environ, port, is_model)
    environ_values = {name: text for name, text in to_environment(values).items() if name not in environ}
    return Launch({**environ, **environ_values}, instance_dir / "server.pid", instance_dir / "logs" / "output.log")


def _many(port: int, workers: int) -> dict[str, Any]:
    """Return the settings for models that come and go by ``POST`` and ``DELETE /models`` at the one port; their URLs
    are absolute paths."""
    return {
        "management_host": "0.0.0.0",
        "management_port": port,
        "models_dir": "/",
        "load_models": "NONE",
        "shipped_models": False,
        "default_workers_per_model": workers or 1,  # a loaded model must be able to answer
    }


def _one(environ: Mapping[str, str], port: int, is_model: bool) -> dict[str, Any]:
    """Return the settings for one model. Management stays inside the container, at a port that no other container of a
    pipeline has."""
    values: dict[str, Any] = {
        "management_host": "127.0.0.1",
        "management_port": _safe_port(environ, port),
        "management_without_token": False,
    }
    place = model_path(environ).absolute()
    if is_model:
        return values | {"models_dir": place.parent, "load_models": str(place), "shipped_models": False}
    if place.is_dir():
        return values | {"models_dir": place, "load_models": "ALL", "shipped_models": False}
    return values


def _port(environ: Mapping[str, str]) -> int:
    port = number(PORT, environ.get(PORT) or str(DEFAULT_PORT), 1)
    if port > LARGEST_PORT:
        raise SettingError(PORT, port, f"a port, at most {LARGEST_PORT}")
    return port


def _safe_port(environ: Mapping[str, str], excluded: int) -> int:
    """Return the first port of the container's safe range, except the excluded one."""
    text = environ.get(SAFE_PORTS, "")
    if not text:
        return MANAGEMENT_PORT if excluded != MANAGEMENT_PORT else MANAGEMENT_PORT + 1
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text.strip())
    ports = range(int(match[1]), int(match[2]) + 1) if match else range(0)
    for port in ports:
        if 0 < port <= LARGEST_PORT and port != excluded:
            return port
    raise SettingError(SAFE_PORTS, text, f"LOW-HIGH, two ports with one between them that is not {excluded}")
