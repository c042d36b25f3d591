"""The environment variables of a handler's process."""

from __future__ import annotations

import os
import re
import site
from collections.abc import Mapping
from fnmatch import fnmatchcase

from app.errors import SettingError
from app.settings import PREFIX, ROOT

PASSED_VARIABLES = (
    *("PATH", "TMPDIR", "TEMP", "TMP", "TZ", "TZDIR", "LANG", "LANGUAGE", "LC_*", "USER", "LOGNAME", "HOSTNAME"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING"),
    *("PYTHONWARNINGS", "PYTHONMALLOC", "PYTHONFAULTHANDLER"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "CUDA_*", "NVIDIA_*", "NCCL_*"),
    *("MXNET_*", "KERAS_*", "TORCH_*", "PYTORCH_*"),
)
"""Patterns of variables that libraries need and that are no secrets. The server's other variables may be confidential.
"""
SERVERS_THREADS = "_DIMPLE_OMP_NUM_THREADS"
"""Variable with the server's own value of ``OMP_NUM_THREADS``, present unless the user has set that."""
DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    # MXNet fuses some graphs wrongly; "default" is a fusion that joins nothing (app/engines/mxnet/compat.py).
    "MXNET_SUBGRAPH_BACKEND": "default",
    "MXNET_SUBGRAPH_VERBOSE": "0",
    # Keras reads ~/.keras/keras.json, and creates it if it is missing. A home that cannot exist prevents both.
    "KERAS_HOME": os.path.join(os.devnull, "keras"),
    "KERAS_BACKEND": "mxnet",
}


def handler_environment(
    hidden: str, environ: Mapping[str, str] = os.environ, *, extra_patterns: str = "", home: str | None = None
) -> dict[str, str]:
    """Return the part of the server's environment that a handler gets; Dimple's own settings are always excluded.

    :param hidden: regular expression for whole names; empty hides nothing.
    :param extra_patterns: comma-separated patterns of names in addition to the usual ones; ``*`` shows everything.
    :param home: home folder; None for no home.
    :raises SettingError: if ``hidden`` is not a regular expression.
    """
    try:
        pattern = re.compile(hidden)
    except re.error as error:
        raise SettingError("blacklist_env_vars", hidden, f"a regular expression ({error})") from None
    patterns = (*PASSED_VARIABLES, *(part.strip() for part in extra_patterns.split(",")))
    variables = {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
        and not name.startswith((PREFIX, SERVERS_THREADS))
        and not (name == "OMP_NUM_THREADS" and SERVERS_THREADS in environ)
        and not (hidden and pattern.fullmatch(name))
    }
    return DEFAULTS | _home(home) | variables | _search_path(variables) | ({"HOME": home} if home else {})


def _home(home: str | None) -> dict[str, str]:
    """Return the variable that makes the server user's own packages available under another home."""
    return {"PYTHONUSERBASE": site.getuserbase()} if home and site.ENABLE_USER_SITE else {}


def _search_path(environ: Mapping[str, str]) -> dict[str, str]:
    if "PYTHONPATH" not in environ:
        return {}
    # Relative entries are relative to the server's current folder, and the child runs elsewhere.
    entries = [os.path.abspath(entry) for entry in environ["PYTHONPATH"].split(os.pathsep) if entry]
    return {"PYTHONPATH": os.pathsep.join(entry for entry in entries if entry != str(ROOT))}
