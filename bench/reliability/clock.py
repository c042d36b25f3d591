"""A clock that jumps: forward by a day, and back by two."""

from __future__ import annotations

import time
from pathlib import Path

from bench.reliability.fault import Fault, Scene
from bench.reliability.models import COLOUR, HANDLED
from bench.reliability.registrations import GUEST, answers, register, unregister
from bench.reliability.served import Served, make

DAY = 86_400
SITE = Path(__file__).parent / "clock_site"


def with_own_clock(folder: Path, cache: Path, workers: int = 2) -> Served:
    """Return a server whose clock is set by a file."""
    served = make(folder, cache, (COLOUR, HANDLED), workers=workers)
    served.environ |= {"PYTHONPATH": str(SITE), "CLOCK_FILE": str(folder / "clock")}
    set_clock(served, 0)
    return served


def set_clock(served: Served, seconds: int) -> None:
    """Set the clock of the server ahead by a number of seconds."""
    new = served.folder / "clock.new"
    new.write_text(f"{seconds}\n")
    new.replace(served.folder / "clock")


def _jump(scene: Scene) -> None:
    before = scene.served.workers()
    for seconds in (DAY, -DAY):
        set_clock(scene.served, seconds)
        status, body = register(scene, GUEST)
        scene.check(status == 200, f"registering: {status} {body!r}")
        scene.check(answers(scene, GUEST), "registered, and does not answer")
        status, body = unregister(scene, GUEST)
        scene.check(status == 200, f"unregistering: {status} {body!r}")
        time.sleep(1.5)  # longer than anything here waits for the next look
    scene.is_over()
    date = time.strftime("%Y-%m-%d", time.localtime(time.time() - DAY))
    scene.check(date in scene.served.log_text(), "the server's clock did not jump")
    scene.check(scene.served.workers() == before, "a worker was replaced")
    scene.note("a day forward, two back; no worker was replaced")


JUMP = Fault("clock jump", _jump, lambda scene: answers(scene, COLOUR))
FAULTS = (JUMP,)
