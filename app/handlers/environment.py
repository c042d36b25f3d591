"""The environment of a handler's process: its variables, its home folder, and the packages that it requires.

``instance/handlers/<digest>/`` contains home and packages. The digest covers the model folder and the requirements. Two
models therefore share nothing, and a changed ``requirements.txt`` is installed anew. Homes that no process uses are
removed at the next start, like unpacked archives (``app/formats/archive/cache.py``).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import site
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from app.errors import ModelFormatError, RequirementsError, SettingError
from app.formats.archive.cache import LOCK, mark_in_use
from app.handlers.requirements import InstallFailed, install
from app.settings import PREFIX, ROOT, Settings
from app.utils.files import file_lock, sha256_file

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


REQUIREMENTS = "requirements.txt"
READ_BY_PIP = {".txt", ".in", ".whl", ".gz", ".zip", ".py", ".toml", ".cfg"}
"""Suffixes of files in a model folder that ``requirements.txt`` may refer to."""
PIP_VARIABLES = "PIP_*,*_proxy,*_PROXY,REQUESTS_CA_BUNDLE"
"""Environment variables for pip. Handlers do not get them, because an index URL may contain a password."""
DONE = "installed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandlerEnvironment:
    """A handler's home folder, and the Python that runs it."""

    home: Path
    python: Path = Path(sys.executable)


def prepare_environment(name: str, folder: Path, settings: Settings) -> HandlerEnvironment:
    """Create a handler's home if it is missing, and keep it as long as this process lives.

    :raises RequirementsError: if its packages cannot be installed.
    :raises ModelFormatError: if the home cannot be written.
    """
    has_requirements = (folder / REQUIREMENTS).is_file()
    if has_requirements and not settings.install_requirements:
        log.warning("%s: its %s is not installed; DIMPLE_INSTALL_REQUIREMENTS=true has it be", name, REQUIREMENTS)
        has_requirements = False
    homes = settings.instance_dir / "handlers"
    try:
        place = homes / _digest(folder, settings.pip_options if has_requirements else None)
        homes.mkdir(parents=True, exist_ok=True)
        with file_lock(homes / LOCK):
            mark_in_use(place)
        (place / "home").mkdir(parents=True, exist_ok=True, mode=0o700)
        if not has_requirements:
            return HandlerEnvironment(place / "home")
        return HandlerEnvironment(place / "home", _ensure_installed(name, folder, place, settings))
    except OSError as error:
        reason = error.strerror or error
        raise ModelFormatError(f"The folder {homes}, for the model {name}, cannot be used: {reason}") from None


def _ensure_installed(name: str, folder: Path, place: Path, settings: Settings) -> Path:
    """Return the Python of the model's environment. The first process that needs it creates it; others wait."""
    environment = handler_environment(
        settings.blacklist_env_vars, extra_patterns=f"{settings.handler_env},{PIP_VARIABLES}", home=str(place / "home")
    )
    with file_lock(place / "lock"):
        if not (place / DONE).exists():
            log.info("%s: installing its %s", name, REQUIREMENTS)
            shutil.rmtree(place / "venv", ignore_errors=True)  # left by an interrupted installation
            try:
                install(
                    folder / REQUIREMENTS, place / "venv", pip_options(settings), environment, settings.install_timeout
                )
            except InstallFailed as failed:
                raise RequirementsError(name, str(failed)) from None
            (place / DONE).touch()
    return place / "venv" / "bin" / "python"


def pip_options(settings: Settings) -> list[str]:
    """Return the options of ``pip install``.

    :raises SettingError: if they are not quoted correctly.
    """
    try:
        return shlex.split(settings.pip_options)
    except ValueError as error:
        raise SettingError("pip_options", settings.pip_options, f"written as for a shell ({error})") from None


def _digest(folder: Path, pip_options: str | None) -> str:
    """Return the digest that identifies a home.

    :param pip_options: None if there is nothing to install.
    """
    parts = [str(folder.resolve())]
    if pip_options is not None:
        parts += [pip_options, sys.version, sys.prefix]
        parts += [f"{path.relative_to(folder)} {sha256_file(path)}" for path in _readable(folder)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _readable(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in READ_BY_PIP)
