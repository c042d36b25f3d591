"""The registry locked or damaged, and repeated registrations."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

from bench.perf.processes import Held
from bench.reliability.books import Rules
from bench.reliability.fault import Fault, Scene
from bench.reliability.models import COLOUR, HANDLED, picture, write_archive

GUEST = "guest"
MANY = 1000
NAMES = 20
ROUNDS = 4
"""Of registrations, until one leaves nothing: under load, pools and heaps grow to their size; a leak grows in each."""


def _registry(scene: Scene) -> Path:
    return scene.served.instance / "registry.json"


def register(scene: Scene, name: str, url: str = COLOUR) -> tuple[int, bytes]:
    """Register an existing model under another name."""
    path = f"/models?url={url}&model_name={name}&initial_workers=1&synchronous=true"
    return scene.served.ask("POST", path, management=True)[:2]


def unregister(scene: Scene, name: str) -> tuple[int, bytes]:
    return scene.served.ask("DELETE", f"/models/{name}", management=True)[:2]


def answers(scene: Scene, name: str) -> bool:
    """Return whether every process has a model, by several requests."""
    return all(scene.served.ask("POST", f"/predictions/{name}", picture("red"))[0] == 200 for _ in range(6))


def is_gone(scene: Scene, name: str) -> bool:
    return all(scene.served.ask("POST", f"/predictions/{name}", b"x")[0] == 404 for _ in range(6))


def _lock(scene: Scene) -> None:
    """Lock the file by another program: registering is refused with the reason; other requests are not affected."""
    with (scene.served.instance / "registry.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        status, body = register(scene, GUEST)
        scene.check(status == 503 and b"holds the lock" in body, f"registering: {status} {body!r}")
        scene.check(is_gone(scene, GUEST), "it was refused, and yet registered")
        status, body = unregister(scene, COLOUR)
        scene.check(status == 503 and b"holds the lock" in body, f"unregistering: {status} {body!r}")
        scene.check(answers(scene, COLOUR), "it was to stay, and does not answer")
    scene.is_over()
    scene.note("meanwhile registering and unregistering were answered 503, and changed nothing")


def _can_register(scene: Scene) -> bool:
    status, body = register(scene, GUEST)
    scene.check(status == 200, f"registering: {status} {body!r}")
    scene.check(answers(scene, GUEST), "registered, and does not answer")
    status, body = unregister(scene, GUEST)
    scene.check(status == 200, f"unregistering: {status} {body!r}")
    return is_gone(scene, GUEST)


def _overwrite(scene: Scene) -> None:
    """Overwrite the file with garbage while the server runs."""
    status, body = register(scene, "before")
    scene.check(status == 200, f"registering: {status} {body!r}")
    _registry(scene).write_bytes(b"this is no registry" * 1000)
    status, body = register(scene, "after")
    scene.check(status == 200, f"registering after it: {status} {body!r}")
    scene.served.wait(lambda: answers(scene, "before") and answers(scene, "after"))
    scene.check("is damaged" in scene.served.log_text(), "the log does not say it")
    scene.note("what was registered before stayed, and the file was written again")


def _restart_with(damage: bytes | None) -> Fault:
    def act(scene: Scene) -> None:
        status, body = register(scene, "kept")
        scene.check(status in (200, 409), f"registering: {status} {body!r}")
        served = scene.served
        process = served.process
        assert process
        process.terminate()
        process.wait(timeout=60)
        path = _registry(scene)
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        served.launch()

    def recovered(scene: Scene) -> bool:
        if not scene.served.is_whole():
            return False
        scene.check(answers(scene, "kept"), "what was registered before is not there")
        return True

    what = {None: "missing", b"": "empty"}.get(damage, "garbage")
    return Fault(f"registry {what} at the start", act, recovered, rules=Rules(away=True))


def come_and_go(count: int, names: int = NAMES) -> Fault:
    """Register and unregister a number of models, under a few names in turn; nothing may be left of them.

    Each name that was ever asked keeps its numbers in the metrics, so all of them are asked before anything is counted.
    """

    def act(scene: Scene) -> None:
        for name in (COLOUR, HANDLED):
            write_archive(scene.served.models / name, scene.served.models / f"{GUEST}-{name}.mar", f"{GUEST}-{name}")
        for number in range(names):
            _one(scene, number)
        # the pool of a process starts a thread when all others are busy at once, and keeps it
        some = min(count // 2, 8)
        files = _files(scene)
        for _ in range(ROUNDS):
            before = _at_rest(scene)
            began = time.monotonic()
            for number in range(count):
                _one(scene, number % names)
            seconds = time.monotonic() - began
            after = _at_rest(scene)
            if (
                after.threads <= before.threads + some
                and after.files <= before.files + some
                and after.pss <= 1.1 * before.pss
            ):
                break
        more = _files(scene) - files
        scene.is_over()
        scene.note(
            f"{count:,} in {seconds:.0f} s; memory {after.pss - before.pss:+.0f} MiB of {before.pss:.0f}, threads "
            f"{after.threads - before.threads:+d}, open files {after.files - before.files:+d}, "
            f"files in instance/ {len(more):+d}"
        )
        scene.check(after.threads <= before.threads + some, f"threads: {before.threads} before, {after.threads} after")
        scene.check(after.files <= before.files + some, f"open files: {before.files} before, {after.files} after")
        scene.check(not more, f"left in instance/: {sorted(more)[:5]}")
        scene.check(after.pss <= 1.1 * before.pss, f"memory: {before.pss} MiB before, {after.pss} after")

    return Fault(f"{count:,} registrations and removals", act, lambda scene: is_gone(scene, GUEST), rules=Rules())


def _one(scene: Scene, number: int) -> None:
    name, url = f"{GUEST}-{number}", f"{GUEST}-{HANDLED if number % 4 == 3 else COLOUR}.mar"
    status, body = register(scene, name, url)
    scene.check(status == 200, f"registering {name}: {status} {body!r}")
    status, body, _ = scene.served.ask("POST", f"/predictions/{name}", picture("green"))
    scene.check(status == 200, f"asking {name}: {status} {body!r}")
    status, body = unregister(scene, name)
    scene.check(status == 200, f"unregistering {name}: {status} {body!r}")


def _at_rest(scene: Scene) -> Held:
    """Return the resources of the processes once nothing ends or closes any more."""
    seen = [scene.served.held()]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.5)
        seen.append(scene.served.held())
        if len({(item.processes, item.threads, item.files) for item in seen[-3:]}) == 1 and len(seen) >= 3:
            break
    return seen[-1]


def _files(scene: Scene) -> set[str]:
    """Return the files of the instance folder, but for the history, one file that the first full minute creates."""
    root = scene.served.instance
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name != "history.ring"}


LOCKED = Fault("registry locked by another program", _lock, _can_register)
OVERWRITTEN = Fault("registry overwritten while the server runs", _overwrite, _can_register)
CAME_AND_WENT = come_and_go(MANY)
GARBAGE = _restart_with(b"\x00garbage" * 512)
EMPTY = _restart_with(b"")
MISSING = _restart_with(None)
FAULTS = (LOCKED, OVERWRITTEN, GARBAGE, EMPTY, MISSING, CAME_AND_WENT)
