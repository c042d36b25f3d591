"""Model files that are removed, changed or truncated while they are served."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal

from bench.reliability.books import Rules
from bench.reliability.fault import Fault, Scene
from bench.reliability.models import COLOUR, HANDLED, picture, write_colour, write_handled
from bench.reliability.registrations import answers, register, unregister

GONE, CUT, SWAPPED, ELSEWHERE = "gone", "cut", "swapped", "elsewhere"
NETWORK = "colour.onnx"


def prepare(scene: Scene) -> None:
    """Register models in the models folder, besides the model that gets requests all the time."""
    models = scene.served.models
    for name in (GONE, CUT, SWAPPED):
        write_colour(models / name)
        status, body = register(scene, name, name)
        scene.check(status == 200, f"registering {name}: {status} {body!r}")
    write_handled(models / ELSEWHERE)
    status, body = register(scene, ELSEWHERE, ELSEWHERE)
    scene.check(status == 200, f"registering {ELSEWHERE}: {status} {body!r}")


def loaded_by(scene: Scene, name: str) -> set[str]:
    """Return the processes that have loaded a model: the process that registered it, and those that followed."""
    return set(re.findall(rf"\[(\d+)\] \[INFO\] model {name} (?:registered|\S+ loaded)", scene.served.log_text()))


def _harm(scene: Scene) -> None:
    """Delete a file, truncate one, replace one, and remove the code of a handler; then restart a worker."""
    prepare(scene)
    served = scene.served
    names = (GONE, CUT, SWAPPED, ELSEWHERE)
    served.wait(lambda: all(len(loaded_by(scene, name)) >= len(served.workers()) for name in names))
    shutil.rmtree(served.models / GONE)
    os.truncate(served.models / CUT / NETWORK, 40)
    shutil.rmtree(served.models / SWAPPED)
    write_colour(served.models / SWAPPED, scale=1 / 4)
    (served.models / ELSEWHERE / "service.py").unlink()
    for name in names:
        scene.check(answers(scene, name), f"{name} was loaded, and does not answer any more")
    scene.memo["before"] = served.workers()
    os.kill(served.master, signal.SIGHUP)


def _others_answer(scene: Scene) -> bool:
    served, before = scene.served, scene.memo["before"]
    assert isinstance(before, list)
    if not served.is_whole() or set(before) & set(served.workers()):
        return False
    scene.check(answers(scene, COLOUR) and answers(scene, SWAPPED), "a model that is whole does not answer")
    for name in (GONE, CUT, ELSEWHERE):
        status, body, _ = served.ask("POST", f"/predictions/{name}", picture("red"))
        scene.check(status == 503, f"{name}: {status} {body!r}")
        description = json.loads(served.ask("GET", f"/models/{name}", management=True)[1])
        description = description[0] if isinstance(description, list) else description
        scene.check(name in description.get("lastError", ""), f"{name}: {description}")
        scene.check(unregister(scene, name)[0] == 200, f"{name} cannot be unregistered")
    unregister(scene, SWAPPED)
    scene.note("deleted, cut and replaced models answered until the reload; after it each said what it lacks")
    return True


MODELS = (COLOUR, HANDLED)
HARMED = Fault("model files deleted, cut, replaced while served; then a reload", _harm, _others_answer, rules=Rules())
FAULTS = (HARMED,)
