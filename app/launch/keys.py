"""Every key of Multi Model Server's configuration, and the setting that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import SettingError

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
"""Keys, their settings, and the least value."""
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
"""Keys that take more than one line to understand."""
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
"""Keys that are accepted, because configurations have them, and that nothing here could follow."""
JAVA_ONLY = (
    "use_native_io",
    "io_ratio",
    "vmargs",
    "plugins_path",
    "model_server_home",
)
"""As :data:`WITHOUT_MEANING`, but never read from the environment."""
ENVIRONMENT_KEYS = tuple(
    key for key in (*PLAIN, *NUMBERS, *ELSEWHERE, *OWN, *WITHOUT_MEANING) if key != "metric_time_interval"
)
"""Keys that ``MMS_<KEY>`` overrides where ``enable_envvars_config`` is set."""
KNOWN = {*PLAIN, *NUMBERS, *ELSEWHERE, *WITHOUT_MEANING, *JAVA_ONLY, "enable_envvars_config"}


def settings_of(configuration: Mapping[str, str]) -> dict[str, Any]:
    """The settings that stand for themselves; addresses, the model store and certificates are others' business.

    :raises SettingError: where a number is none, or too low.
    """
    values: dict[str, Any] = {setting: configuration.get(key, "") for key, setting in PLAIN.items()}
    values |= {"max_request_bytes": MAX_BYTES, "max_response_bytes": MAX_BYTES}
    for key, (setting, low) in NUMBERS.items():
        if configuration.get(key):
            values[setting] = number(key, configuration[key], low)
    if told := configuration.get("management_without_token"):
        values["management_without_token"] = told.lower() == "true"
    values["decode_input_request"] = configuration.get("decode_input_request", "true").lower() == "true"
    values["response_timeout"] = response_seconds(configuration)
    return values


def response_seconds(configuration: Mapping[str, str]) -> int:
    """What a model has for an answer. ``default_response_timeout`` counts minutes, whatever MMS's documents say."""
    if text := configuration.get("default_response_timeout_seconds"):
        return number("default_response_timeout_seconds", text, 1)
    text = configuration.get("default_response_timeout") or str(DEFAULT_MINUTES)
    return 60 * number("default_response_timeout", text, 1)


def number(key: str, text: str, low: int) -> int:
    """A whole number.

    :raises SettingError: where it is none, or lower than ``low``.
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise SettingError(key, text, f"a whole number of at least {low}")
    return value


def unknown(configuration: Mapping[str, str]) -> list[str]:
    """Keys that Multi Model Server does not know, either."""
    return sorted(set(configuration) - KNOWN - set(OWN))


def meaningless(configuration: Mapping[str, str]) -> list[str]:
    """Keys that are accepted and change nothing here."""
    return sorted(set(configuration) & {*WITHOUT_MEANING, *JAVA_ONLY})
