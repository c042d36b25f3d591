"""gunicorn's master, but nobody who serves is let go before somebody else does.

gunicorn itself tells the old workers to end as soon as it has started new ones, which then load their models for
seconds; and it stops the whole server when one worker cannot start, though others serve.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from app.backend.supervisor import BackendProcess
from app.server.connection_balance import COUNTS

PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class ZeroDowntimeArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's own, which lets nobody choose another, makes this one in ``on_starting``, and waits until it ends."""

    _leaving: frozenset[int] = frozenset()
    _pause = PAUSE_SECONDS
    _start_again = 0.0
    _reloading = False
    _told_to_stop = False
    _stopping = False
    _engines: tuple[BackendProcess, ...] = ()

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        # started again as ``python …/gunicorn/__main__.py``, gunicorn's ``http`` would hide Python's own
        self.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]

    def signal(self, sig: int, frame: Any) -> None:
        """Take note of a signal. Who is to stop does not finish a reload first."""
        self._told_to_stop |= sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        super().signal(sig, frame)

    def set_backend(self, engine: BackendProcess | None) -> None:
        """Let workers that are started from now on have what takes long computed by another process, or by none. Those
        that are there stay with theirs, which ends after them."""
        for item in self._engines:
            item.end()
        self._engines += (engine,) if engine else ()

    def detach_backend(self) -> None:
        """To be called in a worker: other processes are the master's."""
        for engine in self._engines:
            engine.leave_to_master()

    def manage_workers(self) -> None:
        """Start the workers that are missing, and let go of those that are too many."""
        if len(self.WORKERS) < self.num_workers and time.monotonic() >= self._start_again:
            self.spawn_workers()
        self._stop_oldest()
        self._check_backend()

    def reload(self) -> None:
        """Start new workers, and let the old ones go as these become ready; where they cannot start, the old ones
        stay."""
        self._reloading, before = True, dict(vars(self.app))
        try:
            super().reload()
        except _NotReloaded:
            self.log.error("The new workers cannot start. The old ones go on.")
        except SystemExit as error:
            if os.getpid() != self.pid:
                raise  # a worker that ends
            self.app.__dict__.update(before)  # gunicorn has begun to read its settings anew
            self.log.error("Not reloaded; the server goes on as it is. %s", error)
        finally:
            self._reloading = False

    def reap_workers(self) -> None:
        """See who has ended. A worker that could not start is tried again later, where others serve meanwhile."""
        self._check_backend()  # before gunicorn takes note of all that have ended, and knows only workers
        try:
            super().reap_workers()
        except HaltServer as halt:
            if not self._serving():
                raise
            self._start_again = time.monotonic() + self._pause
            self.log.error("%s Those that serve go on; the next try is in %g s.", halt.reason, self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            if self._reloading:
                raise _NotReloaded from None
        COUNTS.retain(worker.age for worker in self.WORKERS.values())
        if self._reloading and self._told_to_stop:
            raise StopIteration  # as the signal does that waits
        self._stop_oldest()
        self._insist()

    def stop(self, graceful: bool = True) -> None:
        """End all workers."""
        self._stopping = graceful
        super().stop(graceful)
        for engine in self._engines:
            engine.stop()

    def _check_backend(self) -> None:
        for engine in self._engines:
            engine.check()
        self._engines = tuple(engine for engine in self._engines if not engine.is_over())

    def _serving(self) -> list[Any]:
        """Return the workers that serve, and are to."""
        return [worker for worker in self.WORKERS.values() if worker.ready and worker.pid not in self._leaving]

    def _stop_oldest(self) -> None:
        """Let the oldest workers go, where as many others serve as are wanted. Who has not begun to need not."""
        self._leaving &= frozenset(self.WORKERS)
        staying = [worker for worker in self.WORKERS.values() if worker.pid not in self._leaving]
        serving = len(self._serving())
        if serving >= self.num_workers:
            self._pause = PAUSE_SECONDS
        for worker in sorted(staying, key=lambda item: item.age)[: max(0, len(staying) - self.num_workers)]:
            if worker.ready:
                if serving <= self.num_workers:
                    continue
                serving -= 1
            self._leaving |= {worker.pid}
            self.kill_worker(worker.pid, signal.SIGTERM)

    def _insist(self) -> None:
        """Tell those again that are to end and have not begun to serve: until a worker has handlers for signals of its
        own, it has the master's, which do nothing in it."""
        for pid, worker in list(self.WORKERS.items()):
            if not worker.ready and (self._stopping or pid in self._leaving):
                self.kill_worker(pid, signal.SIGTERM)


class _NotReloaded(Exception):
    """New workers cannot start."""
