"""This machine's Ray node, watched: ``python -m app.engines.ray.node NODE.json TEMPORARY ray start …``.

The process starts Ray, and restarts it when it exits: a node that lost its head exits, and comes back with the head. On
a signal it stops all of the node's processes. Ray's own ``stop`` would stop all Ray processes of the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.engines.ray.node_config import Node
from app.utils.backoff import Backoff
from app.utils.process import die_with_parent

if TYPE_CHECKING:
    import psutil

STARTED = "Ray runtime started"
LONGEST_PAUSE = 10.0
PATIENCE_SECONDS = 5.0
"""Seconds that Ray has to exit by itself."""
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Watch:
    """A watcher that keeps one node running."""

    def __init__(self, facts: Path, node: Node, command: list[str]) -> None:
        self._facts, self._node, self._command = facts, node, command
        self._ending = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def end(self, *_: object) -> None:
        """Request the shutdown of the node."""
        self._ending.set()
        if self._process is not None:
            self._process.terminate()
            threading.Timer(PATIENCE_SECONDS, self._process.kill).start()

    def run(self) -> None:
        """Run Ray, restarting it whenever it exits, until the shutdown."""
        backoff = Backoff(LONGEST_PAUSE)
        while not self._ending.is_set():
            if self._once():
                backoff.reset()
            self._ending.wait(backoff.next_delay())

    def _once(self) -> bool:
        """Run Ray until it exits, and return whether it had started."""
        shutil.rmtree(self._node.temporary, ignore_errors=True)
        Path(self._node.temporary).mkdir(parents=True, mode=0o700)
        started = False
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=die_with_parent,
            )
            assert self._process.stdout is not None
            for line in self._process.stdout:
                print(line, end="", flush=True)
                if STARTED in line:
                    started = True
                    replace(self._node, runs=True).write(self._facts)
                    threading.Thread(target=self._drain, daemon=True).start()
                    break
            self._process.wait()
        finally:
            self._node.write(self._facts)
            self._sweep()
        return started

    def _drain(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            print(line, end="", flush=True)

    def _sweep(self) -> None:
        """Kill the processes that Ray has left; orphans are reparented to this process."""
        import psutil

        left = psutil.Process().children(recursive=True)
        for item in left:
            _signal(item, signal.SIGTERM)
        _, left = psutil.wait_procs(left, timeout=3 if self._ending.is_set() else 1)
        for item in left:
            _signal(item, signal.SIGKILL)
        psutil.wait_procs(left, timeout=5)


def _signal(process: psutil.Process, number: int) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):  # it has exited
        process.send_signal(number)


def main() -> None:
    """Watch the node until the signal to stop."""
    facts, temporary, address, node_ip, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    watch = Watch(Path(facts), Node(address, node_ip, temporary), command)
    signal.signal(signal.SIGTERM, watch.end)
    signal.signal(signal.SIGINT, watch.end)
    try:
        watch.run()
    finally:
        Path(facts).unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
