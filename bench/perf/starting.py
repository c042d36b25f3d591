"""From a command to a server whose networks have all answered."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

from bench.parity.peer import START_SECONDS, NotReady, Peer
from bench.perf.subjects import Subject

POLL_SECONDS = 0.02
JPEG = {"Content-Type": "image/jpeg"}


def spawn(peer: Peer) -> None:
    """Start a server in a process group of its own, without waiting."""
    with peer.log.open("ab") as log:
        peer.process = subprocess.Popen(
            peer.command, cwd=peer.home, env=dict(peer.environ), stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def start(peer: Peer, subjects: Sequence[Subject]) -> float:
    """Start a server.

    :returns: seconds from the command to the moment when every network has answered once.
    :raises NotReady: if that takes too long.
    """
    began = time.monotonic()
    spawn(peer)
    for subject in subjects:
        wait_for(peer, f"/predictions/{subject.name}", subject.picture.read_bytes(), began + START_SECONDS)
    return time.monotonic() - began


def wait_for(peer: Peer, path: str, body: bytes, deadline: float, headers: Mapping[str, str] = JPEG) -> None:
    """Send requests until the answer is 200.

    :raises NotReady: if the server ends, or the time is over.
    """
    while peer.ask("POST", path, body, headers).status != 200:
        if time.monotonic() > deadline or (peer.process and peer.process.poll() is not None):
            raise NotReady(f"{peer.kind} did not answer {path}:\n{peer.log.read_text(errors='replace')[-2000:]}")
        time.sleep(POLL_SECONDS)
