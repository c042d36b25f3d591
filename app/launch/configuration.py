"""Which configuration of Multi Model Server counts, and its values with the environment's put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from app.errors import LaunchError
from app.launch.keys import ENVIRONMENT_KEYS
from app.launch.properties import read_properties

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
"""Where SageMaker's containers say what the built-in file ``sagemaker`` holds."""


def read_configuration(named: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the configuration: the file of ``MMS_CONFIG_FILE``, the one named, ``./config.properties``, or nothing.

    :param named: what ``--mms-config`` said: a file, or ``sagemaker`` for the built-in one.
    :returns: values by key, ``$$NAME$$`` in them replaced from the environment, and overridden by ``MMS_<KEY>`` where
        the file says ``enable_envvars_config=true``.
    :raises LaunchError: where there is no such file, or a variable that it wants.
    """
    named = environ.get("MMS_CONFIG_FILE") or named
    if named == "sagemaker":
        found = _sagemaker(environ)
    elif named:
        if not Path(named).is_file():
            raise LaunchError(f"--mms-config file not found: {named}")
        found = read_properties(Path(named))
    else:
        found = read_properties(Path(DEFAULT_FILE)) if Path(DEFAULT_FILE).is_file() else {}
    found = {key: _with_variables(value, environ).strip() for key, value in found.items()}
    if found.get("enable_envvars_config", "").lower() == "true":
        found |= {key: environ[name] for key in ENVIRONMENT_KEYS if (name := f"MMS_{key.upper()}") in environ}
    return found


def _sagemaker(environ: Mapping[str, str]) -> dict[str, str]:
    address = f"http://0.0.0.0:{environ.get('SAGEMAKER_BIND_TO_PORT', '8080')}"
    told = {key: environ[name] for key, name in SAGEMAKER.items() if environ.get(name)}
    return {
        "inference_address": address,
        "management_address": address,
        "management_without_token": "true",  # nobody but SageMaker reaches its containers, and it knows no tokens
        "decode_input_request": "false",
        "async_logging": "true",
    } | told


def _with_variables(value: str, environ: Mapping[str, str]) -> str:
    def told(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise LaunchError(f"Invalid configuration: Invalid Environment Variable {match[1]}")
        return environ[match[1]]

    return VARIABLE.sub(told, value)
