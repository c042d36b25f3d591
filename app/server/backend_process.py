"""The program of the backend process. gunicorn's master starts it (:mod:`app.backend.supervisor`).

It ends when the master ends, or asks it to, and the last connection is closed; requests under way are answered.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import threading

from app.backend.shared_state import SharedState
from app.server.logging import install, server_style, style_name
from app.settings import Settings, read_settings
from app.telemetry.multiprocess import share
from app.utils.malloc import trim_when_idle, tune_malloc
from app.utils.process import die_with_parent
from app.zoo.imagenet import add_shipped_models


def main() -> None:
    """Serve the HTTP workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listener", type=int, help="file descriptor of a Unix socket that listens")
    parser.add_argument("state", type=int, help="file descriptor of the numbers that all processes share")
    parser.add_argument("master", type=int, help="process id of whoever starts this one")
    arguments = parser.parse_args()
    settings = read_settings()
    _log(settings)
    tune_malloc()
    share(settings.instance_dir / "metrics")
    from app.backend.server import BackendServer  # metrics created from here on are shared
    from app.backend.service import BackendService

    service = BackendService(settings, SharedState(arguments.state))
    server = BackendServer(socket.socket(fileno=arguments.listener), service)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # a terminal sends these to all processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.end())
    die_with_parent()
    if os.getppid() != arguments.master:  # the master ended earlier
        server.end()

    def start() -> None:
        add_shipped_models(settings)
        service.start()

    threading.Thread(target=start, name="start", daemon=True).start()
    trim_when_idle(lambda: server.answered)
    server.run()
    service.close()


def _log(settings: Settings) -> None:
    """Log as the HTTP workers do, on the same streams and files."""
    lines = logging.StreamHandler()
    lines.setFormatter(server_style(style_name(settings)))
    install(settings)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[lines])


if __name__ == "__main__":
    main()
