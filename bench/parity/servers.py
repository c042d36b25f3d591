"""Either server, with one configuration and a store of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.parity.machine import need
from bench.parity.peer import Peer
from bench.parity.setups import Setup
from bench.ports import free_ports

HIDDEN = ("DIMPLE_", "MMS_", "MAKE", "MFLAGS", "PYTHON", "TEMP", "TMPDIR", "LOG_LOCATION", "METRICS_LOCATION")
"""MMS refuses ports from 32767 on."""
BASE = {"max_request_size": "10485760"}


def mms(python: Path, home: Path, setup: Setup) -> Peer:
    """Return Multi Model Server as its own command starts it.

    :param python: of the environment that it is installed in.
    :param home: its own folder; a short one, because the names of sockets must be.
    """
    ports = _ports(setup)
    file = write_config(home, ports, setup)
    command = [str(python), "-m", "mms.model_server", "--foreground", "--mms-config", str(file)]
    environ = _environ(home, setup) | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    return Peer("mms", home, *ports, command, environ, setup.tls)


def dimple(checkout: Path, home: Path, setup: Setup, workers: int) -> Peer:
    """Return Dimple by its own ``multi-model-server``, with the same configuration.

    :param workers: server processes.
    """
    ports = _ports(setup)
    file = write_config(home, ports, setup)
    command = [str(checkout / "bin" / "multi-model-server"), "--foreground", "--mms-config", str(file)]
    return Peer("dimple", home, *ports, command, _own(home, setup, workers), setup.tls)


def dimple_by_environment(checkout: Path, home: Path, setup: Setup, workers: int) -> Peer:
    """Return Dimple by gunicorn, with as much of the configuration as its environment variables can express."""
    ports = _ports(setup)
    environ = _own(home, setup, workers) | {
        "DIMPLE_HOST": "127.0.0.1",
        "DIMPLE_PORT": str(ports[0]),
        "DIMPLE_MANAGEMENT_PORT": str(ports[1]),
        "DIMPLE_MODELS_DIR": str(home / "store"),
        "DIMPLE_MAX_REQUEST_BYTES": {**BASE, **setup.config}["max_request_size"],
    }
    command = [sys.executable, "-m", "gunicorn", "--config", str(checkout / "gunicorn.conf.py")]
    return Peer("dimple", home, *ports, command, environ)


def _own(home: Path, setup: Setup, workers: int) -> dict[str, str]:
    return _environ(home, setup) | {
        "DIMPLE_WORKERS": str(workers),
        "DIMPLE_INSTANCE_DIR": str(home / "instance"),
        "DIMPLE_UPLOADS_DIR": str(home / "uploads"),
        "DIMPLE_MODEL_URL_PRIVATE": "true",  # archives are fetched from this machine, as Multi Model Server does
    }


def _environ(home: Path, setup: Setup) -> dict[str, str]:
    """Return the environment of this process without the variables of either server, and with those of the setup."""
    for name in ("home", "tmp"):
        (home / name).mkdir(exist_ok=True)
    temporary = str(home / "tmp")  # a pid file lies there, and sockets
    plain = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    return {**plain, "HOME": str(home / "home"), "TEMP": temporary, "TMPDIR": temporary, **setup.environ}


def _ports(setup: Setup) -> tuple[int, int]:
    one, other = free_ports(2)
    return (one, one) if setup.one_port else (one, other)


def write_config(home: Path, ports: tuple[int, int], setup: Setup) -> Path:
    """Write a ``config.properties``; see MMS's docs/configuration.md for its keys."""
    scheme = "https" if setup.tls else "http"
    values = {
        "inference_address": f"{scheme}://127.0.0.1:{ports[0]}",
        "management_address": f"{scheme}://127.0.0.1:{ports[1]}",
        "model_store": str(home / "store"),
        **BASE,
        **setup.config,
    }
    if setup.tls and "certificate_file" not in values:
        values |= certificate(home)
    path = home / "config.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def certificate(home: Path) -> dict[str, str]:
    """Make a key and a self-signed certificate; MMS cannot make its own under recent versions of Java.

    :raises Missing: without openssl.
    """
    openssl = need("openssl", "Install it: apt-get install openssl")
    key, signed = home / "key.pem", home / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(signed)], check=True, capture_output=True)
    return {"private_key_file": str(key), "certificate_file": str(signed)}
