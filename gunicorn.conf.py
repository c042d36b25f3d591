"""gunicorn's settings, out of Dimple's own."""

import ctypes
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from app.errors import SettingError
from app.machine import cores
from app.settings import read_settings

try:
    _settings = read_settings()
except SettingError as error:
    sys.exit(str(error))

wsgi_app = "wsgi:app"
chdir = str(Path(__file__).parent)
bind = [f"{_settings.host}:{_settings.port}"]
if _settings.management_port != _settings.port:
    bind.append(f"{_settings.management_host}:{_settings.management_port}")
elif _settings.management_host != _settings.host:  # one port is for SageMaker's containers, not for accidents
    sys.exit(
        f"DIMPLE_PORT and DIMPLE_MANAGEMENT_PORT are both {_settings.port}: everybody who may predict could register "
        f"models, and run code. If that is meant, set DIMPLE_MANAGEMENT_HOST={_settings.host}, too."
    )
workers = _settings.workers or cores()
worker_class = "gthread"
threads = _settings.threads
timeout = _settings.timeout
loglevel = _settings.log_level
accesslog = "-"
control_socket_disable = True  # its default is a file in the user's home

# Workers share the cores: without this each would start as many computing threads as there are cores.
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // workers)))

# nohup starts a program with SIGHUP ignored; gunicorn would take the signal back and reload when its user logs out.
_under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def when_ready(server: object) -> None:
    """Stay deaf to the hang-up of the terminal where the program was started so."""
    if _under_nohup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def on_starting(server: object) -> None:
    """Stop when make stops, even if it is killed or its terminal is closed. Linux only; elsewhere nothing is lost."""
    if "MAKELEVEL" in os.environ and sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
