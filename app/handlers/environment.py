"""The environment variables that a handler's process gets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from app.errors import SettingError
from app.settings import PREFIX, ROOT

DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    # MXNet fuses some graphs wrongly; "default" is a fusion that joins nothing (app/engines/compat.py).
    "MXNET_SUBGRAPH_BACKEND": "default",
    "MXNET_SUBGRAPH_VERBOSE": "0",
    # Keras reads ~/.keras/keras.json, and writes it where there is none. A home that cannot exist stops both.
    "KERAS_HOME": os.path.join(os.devnull, "keras"),
    "KERAS_BACKEND": "mxnet",
}


def handler_environment(hidden: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The server's environment without what is not the handler's business: Dimple's settings, what ``hidden`` matches,
    and Dimple's checkout on the search path for modules.

    :param hidden: regular expression for whole names; empty hides nothing.
    :raises SettingError: where it is no regular expression.
    """
    try:
        pattern = re.compile(hidden)
    except re.error as error:
        raise SettingError("blacklist_env_vars", hidden, f"a regular expression ({error})") from None
    shown = {
        name: value
        for name, value in environ.items()
        if not name.startswith(PREFIX) and not (hidden and pattern.fullmatch(name))
    }
    return DEFAULTS | shown | _search_path(shown)


def _search_path(environ: Mapping[str, str]) -> dict[str, str]:
    if "PYTHONPATH" not in environ:
        return {}
    # Relative entries are relative to where the server was started, and the child runs elsewhere.
    entries = [os.path.abspath(entry) for entry in environ["PYTHONPATH"].split(os.pathsep) if entry]
    return {"PYTHONPATH": os.pathsep.join(entry for entry in entries if entry != str(ROOT))}
