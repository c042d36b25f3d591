"""Processes that are killed, told to end, or replaced."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time

from bench.perf.processes import family
from bench.reliability.books import Rules, handled, heavy, predictions
from bench.reliability.fault import Fault, Scene
from bench.reliability.models import COLOUR, HANDLED, HEAVY, picture

CUT = Rules(cuts=True)
AWAY = Rules(cuts=True, away=True)


def _is_whole(scene: Scene) -> bool:
    return scene.served.is_whole()


def _kill_worker(scene: Scene) -> None:
    os.kill(scene.served.workers()[0], signal.SIGKILL)


def _kill_handler(scene: Scene) -> None:
    scene.memo["handlers"] = before = scene.served.handlers()
    scene.check(bool(before), "there is no handler to kill")
    os.kill(before[0], signal.SIGKILL)


def _handlers_are_back(scene: Scene) -> bool:
    before, now = scene.memo["handlers"], scene.served.handlers()
    assert isinstance(before, list)
    return len(now) >= len(before) and before[0] not in now and _handlers_ready(scene)


def _handlers_ready(scene: Scene) -> bool:
    return scene.served.ask("POST", f"/predictions/{HANDLED}", b"x")[0] == 200


def _kill_engine(scene: Scene) -> None:
    scene.memo["engines"] = before = scene.served.engines()
    scene.check(len(before) == 1, f"one process should compute what takes long, not {len(before)}")
    os.kill(before[0], signal.SIGKILL)


def _engine_is_back(scene: Scene) -> bool:
    now = scene.served.engines()
    computes = scene.served.ask("POST", f"/predictions/{HEAVY}", picture("red"))[0] == 200
    return len(now) == 1 and now != scene.memo["engines"] and computes


def _kill_master(scene: Scene) -> None:
    """Kill the master, and start another as soon as it has ended, as a supervisor does."""
    served = scene.served
    name = f"{COLOUR}-guest"
    status, body, _ = served.ask("POST", f"/models?url={COLOUR}&model_name={name}&initial_workers=1", management=True)
    scene.check(status == 200, f"registering: {status} {body!r}")
    before = family(served.pid)
    assert served.process
    os.kill(served.master, signal.SIGKILL)
    served.process.wait()
    served.launch()
    scene.memo["before"] = before
    scene.memo["guest"] = name


def _master_is_back(scene: Scene) -> bool:
    served, name = scene.served, scene.memo["guest"]
    if not served.is_whole():
        return False
    left = [item for item in scene.memo["before"] if os.path.exists(f"/proc/{item}/exe")]  # type: ignore[attr-defined]
    if left:
        return False
    status, body, _ = served.ask("POST", f"/predictions/{name}", picture("red"))
    scene.check(status == 200, f"what was registered is not there: {status} {body!r}")
    served.ask("DELETE", f"/models/{name}", management=True)
    return True


def _terminate(scene: Scene) -> None:
    """Terminate the server while it computes requests whose bodies are still to come."""
    served = scene.served
    began = [_begin(served.port) for _ in range(4)]
    os.kill(served.master, signal.SIGTERM)
    served.wait_for_line("Handling signal: term")
    for connection in began:
        connection.send(picture("green"))
    statuses = []
    for connection in began:
        with contextlib.closing(connection), connection.getresponse() as response:
            response.read()
            statuses.append(response.status)
    scene.check(statuses == [200] * len(began), f"requests that were under way ended so: {statuses}")
    assert served.process
    scene.check(served.process.wait(timeout=60) == 0, "it did not end well")
    scene.note(f"{len(began)} requests with half a body when it was told were answered")
    served.launch()


def _begin(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", f"/predictions/{COLOUR}")
    connection.putheader("Content-Length", str(len(picture("green"))))
    connection.endheaders()
    return connection


def _reload(scene: Scene) -> None:
    scene.memo["before"] = scene.served.workers()
    longest, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            began = time.monotonic()
            scene.served.ask("GET", "/ping")
            longest[0] = max(longest[0], time.monotonic() - began)
            stop.wait(0.02)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        os.kill(scene.served.master, signal.SIGHUP)
        scene.served.wait(lambda: _workers_are_others(scene))
    finally:
        stop.set()
        watching.join()
    log_text = scene.served.log_text()
    before = scene.memo["before"]
    assert isinstance(before, list)
    ends = sorted(log_text.index(f"Worker exiting (pid: {item})") for item in before)
    begins = sorted(log_text.index(f"[{worker}] [INFO] model {COLOUR} ") for worker in scene.served.workers())
    # the first goes when one has come, the second when two have
    good = all(begin < end for begin, end in zip(begins, ends, strict=True))
    scene.check(good, "an old worker ended before a new one had its models")
    scene.note(f"longest answer on a new connection meanwhile: {1000 * longest[0]:.0f} ms")


def _misspell(scene: Scene) -> None:
    """Reload, and replace a worker, with settings that make no sense: serving workers continue."""
    served, file = scene.served, scene.served.instance / "settings.env"
    file.write_text("DIMPLE_MAX_FILES=many\n")
    try:
        os.kill(served.master, signal.SIGHUP)
        served.wait_for_line("Not reloaded; the server keeps running unchanged. The setting")
        before = served.workers()
        os.kill(before[0], signal.SIGKILL)
        served.wait_for_line("The current workers keep serving; the next attempt is in 2 s.")
        scene.check(before[1] in served.workers(), "the other worker ended, too")
    finally:
        file.unlink()
    scene.note("a reload was refused with the reason, a killed worker was replaced when the settings were right again")


def _workers_are_others(scene: Scene) -> bool:
    before = scene.memo["before"]
    assert isinstance(before, list)
    return scene.served.is_whole() and not set(before) & set(scene.served.workers())


FAULTS = (
    Fault("`kill -9` of a worker", _kill_worker, _is_whole, rules=CUT),
    Fault("`kill -9` of a handler", _kill_handler, _handlers_are_back, handled, CUT),
    Fault("`kill -9` of the master, started again by a supervisor", _kill_master, _master_is_back, rules=AWAY),
    Fault("`kill -9` of the process that computes what takes long", _kill_engine, _engine_is_back, heavy),
    Fault("SIGTERM, then started again", _terminate, _is_whole, rules=Rules(away=True)),
    Fault("reload (SIGHUP)", _reload, _workers_are_others, predictions),
    Fault("settings that make no sense, met by a reload and a killed worker", _misspell, _is_whole, rules=CUT),
)
WORKER, HANDLER, MASTER, ENGINE, TERM, RELOAD, MISSPELT = FAULTS
