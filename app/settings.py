"""Every setting: its name, default and meaning, in one place. The environment sets them as ``DIMPLE_<NAME>``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from app.errors import SettingError

PREFIX = "DIMPLE_"
ROOT = Path(__file__).resolve().parent.parent


def setting(default: Any, help: str, low: int | None = None, choices: tuple[str, ...] = ()) -> Any:
    """Declare a setting: its default, one sentence of help, and what limits its value."""
    return field(default=default, metadata={"help": help, "low": low, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """All settings. A relative folder is relative to the checkout, wherever the program was started."""

    host: str = setting("0.0.0.0", "Address on which predictions and the page are served.")
    port: int = setting(8080, "Port of predictions and the page.", low=1)
    management_host: str = setting("127.0.0.1", "Address on which management is served.")
    management_port: int = setting(8081, "Port of management.", low=1)
    workers: int = setting(0, "Server processes; 0 takes one for every core this process may use.", low=0)
    threads: int = setting(32, "Threads in each server process: requests that it works on at once.", low=1)
    timeout: int = setting(120, "Seconds after which a server process that hangs is replaced.", low=1)
    models_dir: Path = setting(Path("models"), "Folder of the models, one folder each.")
    uploads_dir: Path = setting(Path("uploads"), "Folder of the pictures sent through the page.")
    instance_dir: Path = setting(Path("instance"), "Folder of everything else that the program writes.")
    default_model: str = setting("smile", "Model that /file/ asks when the form names none.")
    engine: str = setting(
        "auto",
        "What computes where a model has both: mxnet (its checkpoint), keras (its .h5) or auto (the checkpoint).",
        choices=("auto", "mxnet", "keras"),
    )
    max_request_bytes: int = setting(32 * 2**20, "Longest request body, in bytes; a longer one is answered 413.", low=1)
    max_files: int = setting(32, "Most pictures in one request.", low=1)
    max_pixels: int = setting(64_000_000, "Most pixels of a picture; a larger one is refused unread.", low=1)
    uploads_max_age: int = setting(24 * 3600, "Seconds for which an uploaded picture is kept; 0 keeps none.", low=0)
    uploads_max_bytes: int = setting(
        256 * 2**20, "Total bytes of uploaded pictures, the oldest going first; 0 keeps none.", low=0
    )
    log_level: str = setting(
        "info", "What is logged: debug, info, warning or error.", choices=("debug", "info", "warning", "error")
    )


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment.

    :raises SettingError: naming the variable and its value, where a value is out of range or of the wrong kind, or
        where a ``DIMPLE_…`` variable is not a setting (a misspelt one would otherwise do nothing, silently).
    """
    known = {PREFIX + f.name.upper(): f for f in fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingError(unknown[0], environ[unknown[0]], f"one of {', '.join(sorted(known))}")
    values = {f.name: _parse(name, environ[name], f) for name, f in known.items() if name in environ}
    return anchored(replace(Settings(), **values))


def anchored(settings: Settings) -> Settings:
    """Return the settings with the relative folders made absolute, under the checkout."""
    folders = ("models_dir", "uploads_dir", "instance_dir")
    return replace(settings, **{name: ROOT / getattr(settings, name) for name in folders})


def _parse(name: str, text: str, declared: Field[Any]) -> Any:
    kind: Any = type(declared.default)
    low, choices = declared.metadata["low"], declared.metadata["choices"]
    if choices and text not in choices:
        raise SettingError(name, text, f"one of {', '.join(choices)}")
    if kind is not int:
        if not text:
            raise SettingError(name, text, "not empty")
        return kind(text)
    expected = f"a whole number of at least {low}"
    try:
        value = int(text)
    except ValueError:
        raise SettingError(name, text, expected) from None
    if value < low:
        raise SettingError(name, text, expected)
    return value
