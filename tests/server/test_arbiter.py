"""The master: replaced by another one without a gap."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from bench.reliability.models import COLOUR, picture
from bench.reliability.served import make, running
from tests.conftest import CACHE


def test_replacing_a_server_under_make_leaves_the_new_server_running(tmp_path: Path) -> None:
    served = make(tmp_path / "server", CACHE, workers=1)
    served.environ["MAKELEVEL"] = "1"
    with running(served):
        first = served.master
        os.kill(first, signal.SIGUSR2)
        served.wait(lambda: served.master != first and served.is_whole())
        successor = served.master
        try:
            os.kill(first, signal.SIGTERM)
            assert served.process is not None
            assert served.process.wait(timeout=60) == 0
            assert served.ask("POST", f"/predictions/{COLOUR}", picture("red"))[0] == 200
            assert served.log_text().count("Handling signal: term") == 1
        finally:
            os.kill(successor, signal.SIGTERM)
        served.wait(lambda: not Path(f"/proc/{successor}/exe").exists())
