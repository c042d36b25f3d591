"""One thread of a server process leads: it waits for all connections, and answers what comes itself.

There is one interpreter's lock: to hand a request from the thread that waits to one that answers, and back, costs twice
what it takes to answer a short one, and threads that answer at the same time hand each other the lock at every system
call. So requests are answered one after the other by the thread that has read them, until one takes long: then another
thread of the pool leads, and the one that led goes on with its request alone. Who is about to wait says so
(:mod:`app.long_waits`); of all others the main thread finds out.

The pattern is Leader/Followers (Schmidt and others, Pattern-Oriented Software Architecture 2, 2000). That the lead is
taken from a thread which does not come back is how Go's scheduler treats system calls.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from contextlib import suppress
from selectors import EVENT_READ, SelectorKey
from typing import Any

from app.launch.worker.arriving import Connection, is_complete
from app.launch.worker.patient import TICK_SECONDS, PatientWorker
from app.long_waits import tell_of_long_waits

LEASE_SECONDS = 0.01
"""How often the main thread looks whether the leader still answers the same request, and waits in it for something."""
LEAST_SECONDS = 0.0002
"""Who has computed for so long since the last look does not wait but for the interpreter's lock."""
LONGEST_SECONDS = 0.025
"""After which another leads even where the leader computes: there may be cores that nobody uses."""


class LeadingWorker(PatientWorker):
    """One server process. What gunicorn lets the main thread do with connections, the leader does, and nobody else."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._turn = threading.Lock()  # of what follows
        self._leader: object = None  # the thread's number; until it has begun, any object
        self._answering: Connection | None = None  # by the leader
        self._begun = 0  # requests
        self._task = 0  # the leader's number in the system
        self._found: deque[SelectorKey] = deque()  # what waits for the leader,
        self._due = 0  # after so many that were left for later
        self._resting = False  # whether the main thread has nothing to look after
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # the only queue that handlers of signals may use
        self._broken: BaseException | None = None

    def run(self) -> None:
        """Serve until told to end."""
        self.prepare()
        tell_of_long_waits(self._step_aside)
        pipe = self.method_queue.fileno()
        self.poller.register(pipe, EVENT_READ, self.method_queue.run_callbacks)
        self._let_another_lead()
        while self.alive and self.is_parent_alive():
            self.notify()
            self._look_after(TICK_SECONDS)
        self._take_the_lead()
        self.poller.unregister(pipe)
        super().run()  # who is to end has threads of the pool answer, and waits for them

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to end."""
        super().handle_exit(sig, frame)
        self._wake.put(None)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a request answered: by the leader, whose call this is, where all of the request is there."""
        if not self.alive or conn.tls or not is_complete(conn.arrival.data):
            self.stop_polling(conn)
            super().enqueue_req(conn)
            return
        with self._turn:
            self._answering = conn
            self._begun += 1
        if self._resting:
            self._wake.put(None)
        kept = self._answer(conn)
        with self._turn:
            if leads := self._leader == threading.get_ident():
                self._answering = None
        if leads:
            self.take_back(conn, kept)
        else:
            self.method_queue.defer(self.take_back, conn, kept)

    def _answer(self, conn: Connection) -> bool:
        try:
            return bool(self.handle(conn))
        except BaseException:  # as in a thread of the pool: the worker outlives whatever a request does
            self.log.exception("A request ended its connection.")
            return False

    def _lead(self, token: object) -> None:
        """Lead, until another thread does."""
        me = threading.get_ident()
        with self._turn:
            if self._leader is not token:
                return
            self._leader, self._task = me, threading.get_native_id()
        try:
            while self.alive and self._leader == me:
                self.open_door()
                self._wait_and_answer(me)
        except BaseException as error:
            self._broken = error
        with self._turn:
            if self._leader == me:
                self._leader = None
        self._wake.put(None)

    def _wait_and_answer(self, me: int) -> None:
        """Once around: first what was left for later, which is older, then what has come. What is left when another
        thread leads, that goes on with: the system would tell the first ones first again."""
        if not self._due and not self._found:
            self._due = len(self.later)
            self._found.extend(key for key, _ in self.poller.select(self.patience()))
        while self._due or self._found:
            self._take_next()
            if self._leader != me:
                return
            if self._due or self._found:  # who comes meanwhile is not to wait until all are answered
                self.open_door()
                self.look_at_door()
        self.look_at_deadlines()

    def _take_next(self) -> None:
        if self._due:
            self._due -= 1
            self.enqueue_req(self.later.popleft())
        else:
            key = self._found.popleft()
            key.data(key.fileobj)

    def _let_another_lead(self) -> None:
        self._leader = token = object()
        self.tpool.submit(self._lead, token)

    def _step_aside(self) -> None:
        """Where this thread leads, let another."""
        if self._leader == threading.get_ident():
            with self._turn:
                self._replace()

    def _replace(self) -> None:
        """Let another thread lead than the one that answers. To be called with the lock."""
        if self._let_go_of_request():
            self._let_another_lead()

    def _let_go_of_request(self) -> bool:
        if self._answering is None:
            return False
        self.stop_polling(self._answering)
        self._answering = None
        return True

    def _look_after(self, seconds: float) -> None:
        """For so many seconds, take the lead from threads whose requests take long."""
        now = since = time.monotonic()
        end, before, computed = now + seconds, -1, 0.0
        while self.alive and now < end:
            if self._broken is not None:
                raise self._broken
            used = self._computed()
            if (begun := self._begun) != before:
                before, since = begun, now
            elif self._answering is None:
                self._doze(begun, end - now)
            elif now - since > LONGEST_SECONDS or (used - computed < LEAST_SECONDS and is_asleep(self._task)):
                with self._turn:
                    if self._begun == begun:
                        self._replace()
            computed = used
            time.sleep(LEASE_SECONDS)
            now = time.monotonic()

    def _computed(self) -> float:
        """How many seconds the leader has computed; 0 where the system does not tell."""
        leader = self._leader
        if self._answering is None or not isinstance(leader, int) or not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(leader))

    def _doze(self, begun: int, seconds: float) -> None:
        """Sleep until the next request, or so long."""
        self._resting = True
        if self._begun == begun and self.alive:
            with suppress(queue.Empty):
                self._wake.get(timeout=seconds)
        self._resting = False

    def _take_the_lead(self) -> None:
        """Lead in the main thread, as soon as nobody is doing what only a leader may."""
        while True:
            with self._turn:
                if not isinstance(self._leader, int) or self._let_go_of_request():
                    self._leader = threading.get_ident()
                    return
            time.sleep(LEASE_SECONDS)


def is_asleep(task: int) -> bool:
    """Whether a thread of this process waits for something else than a core.

    :param task: its number in the system. Where that does not tell, every thread does.
    """
    try:
        with open(f"/proc/self/task/{task}/stat", "rb") as file:
            return not file.read().rpartition(b")")[2].lstrip().startswith(b"R")
    except OSError:
        return True
