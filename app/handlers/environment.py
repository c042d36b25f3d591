"""The environment variables that a handler's process gets."""

from __future__ import annotations

import os
import re
import site
from collections.abc import Mapping
from fnmatch import fnmatchcase

from app.errors import SettingError
from app.settings import PREFIX, ROOT

SHOWN = (
    *("PATH", "TMPDIR", "TEMP", "TMP", "TZ", "TZDIR", "LANG", "LANGUAGE", "LC_*", "USER", "LOGNAME", "HOSTNAME"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING"),
    *("PYTHONWARNINGS", "PYTHONMALLOC", "PYTHONFAULTHANDLER"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "CUDA_*", "NVIDIA_*", "NCCL_*"),
    *("MXNET_*", "KERAS_*", "TORCH_*", "PYTORCH_*"),
)
"""What libraries need, and what is nobody's secret. All else the server's environment may hold in confidence."""
SERVERS_THREADS = "_DIMPLE_OMP_NUM_THREADS"
"""Variable with the server's own value of ``OMP_NUM_THREADS``, if nobody else has set that."""
DEFAULTS = {
    "OMP_NUM_THREADS": "1",
    # MXNet fuses some graphs wrongly; "default" is a fusion that joins nothing (app/engines/mxnet/compat.py).
    "MXNET_SUBGRAPH_BACKEND": "default",
    "MXNET_SUBGRAPH_VERBOSE": "0",
    # Keras reads ~/.keras/keras.json, and writes it where there is none. A home that cannot exist stops both.
    "KERAS_HOME": os.path.join(os.devnull, "keras"),
    "KERAS_BACKEND": "mxnet",
}


def handler_environment(
    hidden: str, environ: Mapping[str, str] = os.environ, *, extra_patterns: str = "", home: str | None = None
) -> dict[str, str]:
    """Return what of the server's environment is the handler's business. Dimple's own settings never are.

    :param hidden: regular expression for whole names; empty hides nothing.
    :param extra_patterns: patterns of names beside the usual ones, with commas between; ``*`` shows everything.
    :param home: the home folder; None gives none.
    :raises SettingError: where ``hidden`` is no regular expression.
    """
    try:
        pattern = re.compile(hidden)
    except re.error as error:
        raise SettingError("blacklist_env_vars", hidden, f"a regular expression ({error})") from None
    patterns = (*SHOWN, *(part.strip() for part in extra_patterns.split(",")))
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
    """Return what is installed below the home of the server's user is found from another home, too."""
    return {"PYTHONUSERBASE": site.getuserbase()} if home and site.ENABLE_USER_SITE else {}


def _search_path(environ: Mapping[str, str]) -> dict[str, str]:
    if "PYTHONPATH" not in environ:
        return {}
    # Relative entries are relative to where the server was started, and the child runs elsewhere.
    entries = [os.path.abspath(entry) for entry in environ["PYTHONPATH"].split(os.pathsep) if entry]
    return {"PYTHONPATH": os.pathsep.join(entry for entry in entries if entry != str(ROOT))}
