"""A disk that is full: of the uploads, of the instance folder, of the cache.

Each lies on a small disk of its own, in memory, which the server alone sees: it runs in a mount namespace (Linux,
``unshare``), which do not need root if the system allows such namespaces.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path

from bench.reliability.books import Kind, Rules, pages, predictions
from bench.reliability.fault import Fault, Scene
from bench.reliability.models import COLOUR, write_archive, write_colour
from bench.reliability.registrations import GUEST, answers, is_gone, register, unregister
from bench.reliability.served import Served, make

SIZE = "8m"
PLACES = ("uploads", "instance", "cache")
FILLER = "filler"


def why_not() -> str:
    """Return why a server cannot have small disks here; empty if it can."""
    if not shutil.which("unshare"):
        return "there is no unshare (Linux, util-linux)"
    done = subprocess.run([*_command([]), "true"], capture_output=True, text=True)
    return f"this system allows no mount namespace: {done.stderr.strip()}" if done.returncode else ""


def on_small_disks(folder: Path) -> Served:
    """Return a server whose uploads, instance folder and cache are each on a disk of its own."""
    served = make(folder, folder / "cache")
    (folder / "cache").mkdir()
    served.wrapped = _command([folder / name for name in PLACES])
    return served


def _command(folders: list[Path]) -> list[str]:
    mounts = "".join(f'mount -t tmpfs -o size={SIZE} tmpfs "{folder}" && ' for folder in folders)
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh"]


def seen(served: Served, name: str) -> Path:
    """Return one of the folders, as the server sees it."""
    return Path(f"/proc/{served.pid}/root{served.folder}/{name}")


def fill(served: Served, name: str) -> None:
    """Leave no byte free."""
    with (seen(served, name) / FILLER).open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def clear(served: Served, name: str) -> None:
    (seen(served, name) / FILLER).unlink()


def _files(served: Served, name: str) -> set[str]:
    return {path.name for path in seen(served, name).iterdir()}


def _uploads(scene: Scene) -> None:
    """Check that pictures sent through the page are answered, and not stored; the page then shows no URL."""
    served = scene.served
    fill(served, "uploads")
    before, answered = _files(served, "uploads"), scene.books.sent
    try:
        served.wait(lambda: scene.books.sent > answered + 40)
        scene.check(_files(served, "uploads") - before == set(), "something half was kept")
    finally:
        clear(served, "uploads")
    scene.is_over()
    scene.note("pictures sent through the page were answered, and not kept")


def _pictures_are_kept(scene: Scene) -> bool:
    before = len(_files(scene.served, "uploads"))
    kind = pages()[0]
    scene.served.ask(kind.method, kind.path, kind.body, headers=dict(kind.headers))
    return len(_files(scene.served, "uploads")) > before


def _instance(scene: Scene) -> None:
    """Check that registering and unregistering are refused with the reason; a worker that dies is still replaced."""
    served = scene.served
    fill(served, "instance")
    try:
        status, body = register(scene, GUEST)
        scene.check(status == 507, f"registering: {status} {body!r}")
        scene.check(is_gone(scene, GUEST), "it was refused, and yet registered")
        status, body = unregister(scene, COLOUR)
        scene.check(status == 507, f"unregistering: {status} {body!r}")
        scene.check(answers(scene, COLOUR), "it was to stay, and does not answer")
        before = served.workers()
        os.kill(before[0], signal.SIGKILL)
        served.wait(lambda: before[0] not in served.workers() and served.is_whole())
    finally:
        clear(served, "instance")
    scene.is_over()
    scene.note("registering and unregistering were answered 507, and changed nothing; a killed worker was replaced")


def _can_register(scene: Scene) -> bool:
    if register(scene, GUEST)[0] != 200:
        return False
    scene.check(answers(scene, GUEST), "registered, and does not answer")
    scene.check(unregister(scene, GUEST)[0] == 200, "it cannot be unregistered")
    return is_gone(scene, GUEST)


def _cache(scene: Scene) -> None:
    """Check that a network that has to be converted is refused with the reason."""
    served = scene.served
    write_colour(served.folder / "other" / GUEST, scale=1 / 8)
    write_archive(served.folder / "other" / GUEST, served.models / f"{GUEST}.mar", GUEST)
    fill(served, "cache")
    try:
        status, body = register(scene, GUEST, f"{GUEST}.mar")
        scene.check(
            status in (400, 507) and os.strerror(errno.ENOSPC).encode() in body, f"registering: {status} {body!r}"
        )
        scene.check(is_gone(scene, GUEST), "it was refused, and yet registered")
    finally:
        clear(served, "cache")
    scene.is_over()
    scene.note(f"a network to be converted was refused ({status}), with the reason")


def _can_convert(scene: Scene) -> bool:
    if register(scene, GUEST, f"{GUEST}.mar")[0] != 200:
        return False
    scene.check(answers(scene, GUEST), "registered, and does not answer")
    return unregister(scene, GUEST)[0] == 200


def _with_pages() -> list[Kind]:
    return predictions() + pages()


UPLOADS = Fault("disk full: uploads", _uploads, _pictures_are_kept, _with_pages)
INSTANCE = Fault("disk full: instance", _instance, _can_register, rules=Rules(cuts=True))
CACHE = Fault("disk full: cache", _cache, _can_convert)
FAULTS = (UPLOADS, INSTANCE, CACHE)
