"""Which models a server loads at start, told so that it does not matter where the server is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from app.errors import LaunchError

URL = re.compile(r"https?://", re.IGNORECASE)


def split_models(text: str) -> list[str]:
    """The models of a list with commas."""
    return [one.strip() for one in text.split(",") if one.strip()]


def load_models(told: Sequence[str], store: Path | None) -> str:
    """Write the setting ``load_models``.

    :param told: ``ALL``, or ``[NAME=]PLACE`` each.
    :param store: the model store, in which a place is looked up before the folder where the server is started.
    :raises LaunchError: where ``ALL`` is asked for without a store, or a place is nowhere.
    """
    if any(one.upper() == "ALL" for one in told):
        if store is None:
            raise LaunchError("ALL models of which folder? Name it with --model-store, or as model_store.")
        return "ALL"
    return ",".join(_located(one, store) for one in told)


def _located(told: str, store: Path | None) -> str:
    """``[NAME=]LOCATION`` with a location that does not depend on where the server was started."""
    name, equals, location = told.rpartition("=") if not URL.match(told) else ("", "", told)
    if URL.match(name.partition("=")[2]):  # the URL has a = of its own
        name, equals, location = told.partition("=")
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
