"""gunicorn's master, extended to stop workers only after their replacements serve.

gunicorn itself stops the old workers as soon as it has started new ones, which then load their models for seconds. It
also stops the whole server if one worker cannot start, even if others serve.
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
from app.server.listener import COUNTS

PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class ZeroDowntimeArbiter(Arbiter):  # type: ignore[misc]
    """An arbiter that replaces gunicorn's, which offers no choice of class: ``on_starting`` of gunicorn's arbiter
    creates it and waits until it ends."""

    _leaving: frozenset[int] = frozenset()
    _pause = PAUSE_SECONDS
    _start_again = 0.0
    _reloading = False
    _stop_requested = False
    _stopping = False
    _engines: tuple[BackendProcess, ...] = ()

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        # restarted as ``python …/gunicorn/__main__.py``, gunicorn's ``http`` would hide Python's own
        self.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]

    def signal(self, sig: int, frame: Any) -> None:
        """Record a signal. A stop signal interrupts a reload."""
        self._stop_requested |= sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        super().signal(sig, frame)

    def set_backend(self, engine: BackendProcess | None) -> None:
        """Set the backend process of workers started from now on, or None. Running workers stay with theirs, which ends
        after them."""
        for item in self._engines:
            item.end()
        self._engines += (engine,) if engine else ()

    def detach_backend(self) -> None:
        """Detach from the backend processes, which belong to the master. Call it in a worker."""
        for engine in self._engines:
            engine.leave_to_master()

    def manage_workers(self) -> None:
        """Start missing workers, and stop excess workers."""
        if len(self.WORKERS) < self.num_workers and time.monotonic() >= self._start_again:
            self.spawn_workers()
        self._stop_oldest()
        self._check_backend()

    def reload(self) -> None:
        """Start new workers, and stop old ones as the new become ready. If new workers cannot start, the old workers
        stay."""
        self._reloading, before = True, dict(vars(self.app))
        try:
            super().reload()
        except _NotReloaded:
            self.log.error("The new workers cannot start. The old workers keep serving.")
        except SystemExit as error:
            if os.getpid() != self.pid:
                raise  # a worker that ends
            self.app.__dict__.update(before)  # gunicorn has begun to reread its settings
            self.log.error("Not reloaded; the server keeps running unchanged. %s", error)
        finally:
            self._reloading = False

    def reap_workers(self) -> None:
        """Reap ended workers. A worker that could not start is retried later if others serve meanwhile."""
        self._check_backend()  # first, because gunicorn reaps all children but knows only workers
        try:
            super().reap_workers()
        except HaltServer as halt:
            if not self._serving():
                raise
            self._start_again = time.monotonic() + self._pause
            self.log.error(
                "%s The current workers keep serving; the next attempt is in %g s.", halt.reason, self._pause
            )
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            if self._reloading:
                raise _NotReloaded from None
        COUNTS.retain(worker.age for worker in self.WORKERS.values())
        if self._reloading and self._stop_requested:
            raise StopIteration  # as for a pending signal
        self._stop_oldest()
        self._insist()

    def stop(self, graceful: bool = True) -> None:
        """Stop all workers."""
        self._stopping = graceful
        super().stop(graceful)
        for engine in self._engines:
            engine.stop()

    def _check_backend(self) -> None:
        for engine in self._engines:
            engine.check()
        self._engines = tuple(engine for engine in self._engines if not engine.is_over())

    def _serving(self) -> list[Any]:
        """Return the workers that serve and have not been stopped."""
        return [worker for worker in self.WORKERS.values() if worker.ready and worker.pid not in self._leaving]

    def _stop_oldest(self) -> None:
        """Stop the oldest excess workers, as long as enough others serve. A worker that does not serve yet may stop at
        once."""
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
        """Repeat the stop signal for workers that do not serve yet: until a worker has installed its own signal
        handlers, it has the master's, which have no effect in it."""
        for pid, worker in list(self.WORKERS.items()):
            if not worker.ready and (self._stopping or pid in self._leaving):
                self.kill_worker(pid, signal.SIGTERM)


class _NotReloaded(Exception):
    """Failure to start new workers during a reload."""
