"""The engine process: it computes for all server processes what takes long.

Every network is compiled once, there is one line before it, and nobody else's threads want the cores. The process that
starts it (:mod:`app.launch.engine_process`) hands it a socket that listens; its standard streams are the server's. It
ends when that one has ended or told it to, and the last connection is closed: requests under way are answered.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import selectors
import signal
import socket
import struct
import threading
import time
from pathlib import Path

from app.engines.in_flight import IN_FLIGHT
from app.engines.shared.messages import Channel, Gone, Kind
from app.engines.shared.networks import Network, Networks, Wanted
from app.engines.shared.room import Room
from app.errors import ModelFormatError
from app.idle import keep_heaps, tidy_when_idle
from app.parent import end_with_parent
from app.pulse import Pulse
from app.utils.error_text import reason_of

log = logging.getLogger(__name__)

REST_SECONDS = 0.05
BEAT_SECONDS = 1.0
LONGEST_REASON = 500
CREDENTIALS = struct.Struct("3i")
"""Process, user, group: the kernel's ``struct ucred`` of unix(7)."""


class EngineServer:
    """Answers those who connect.

    :param listener: where server processes connect.
    :param in_flight: the file that tells them what is being computed, see :mod:`app.engines.in_flight`.
    :param pulse: that the master watches.
    """

    def __init__(self, listener: socket.socket, in_flight: Path, pulse: Pulse) -> None:
        self._listener = listener
        self._in_flight = in_flight
        self._pulse = pulse
        self._networks = Networks()
        self._lock = threading.Lock()
        self._seats = 0
        self._ending = False
        self._woken, self._wake = socket.socketpair()
        self.answered = 0

    def end(self) -> None:
        """Have :meth:`run` end when the last seat is given up. Handlers of signals may call this."""
        self._ending = True
        self._wake.send(b".")

    def run(self) -> None:
        """Serve until told to end."""
        selector = selectors.DefaultSelector()
        for one in (self._listener, self._woken):
            one.setblocking(False)
            selector.register(one, selectors.EVENT_READ)
        while not (self._ending and not self._seats):
            self._pulse.beat()
            ready = {key.fileobj for key, _ in selector.select(BEAT_SECONDS)}
            if self._woken in ready:
                self._woken.recv(4096)
            if self._listener in ready:
                self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # who came has gone, or there are too many files open
            time.sleep(REST_SECONDS)
            return
        if _user_of(connection) != os.getuid():
            connection.close()
            return
        channel = Channel(connection)
        with self._lock:
            self._seats += 1
        try:
            threading.Thread(target=self._serve, args=(channel,), name="seat", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            self._leave(channel)

    def _serve(self, channel: Channel) -> None:
        """One server process's seat, until that gives it up."""
        try:
            with contextlib.suppress(Gone):
                self._open(channel)
        except Exception:
            log.exception("a connection ends")
        finally:
            self._leave(channel)

    def _leave(self, channel: Channel) -> None:
        channel.close()
        with self._lock:
            self._seats -= 1
        self._wake.send(b".")

    def _open(self, channel: Channel) -> None:
        _, _, length = channel.receive(Kind.OPEN)
        wanted = Wanted(**channel.read_json(length))
        channel.send(Kind.HERE, str(os.getpid()))
        self._see_the_others()
        with contextlib.ExitStack() as stack:
            try:
                network = stack.enter_context(self._networks.hold(wanted))
            except (RuntimeError, OSError) as error:
                channel.send(Kind.REFUSED, reason_of(error, LONGEST_REASON))
                return
            channel.send_json(Kind.READY, {"row_shape": network.row_shape})
            room = None
            while True:
                kind, count, _ = channel.receive(Kind.ROOM, Kind.ASK)
                if kind is Kind.ROOM:
                    room = channel.take_room(count)
                elif room is None:
                    raise Gone("rows were to be computed that have no room")
                else:
                    self._answer(channel, network, room, count)

    def _answer(self, channel: Channel, network: Network, room: Room, count: int) -> None:
        """Compute rows when it is their turn."""
        try:
            rows = room.rows(count, network.row_shape)
        except ValueError as error:
            raise Gone(str(error)) from None
        try:
            with network.line:
                answer = network.predict(rows)
        except ModelFormatError as error:
            channel.send(Kind.FAILED, str(error))
        except Exception as error:
            log.exception("%d rows are not computed", count)
            channel.send(Kind.FAILED, f"it could not be computed: {reason_of(error, LONGEST_REASON)}")
        else:
            self.answered += 1
            channel.send_rows(Kind.ANSWER, answer)

    def _see_the_others(self) -> None:
        with contextlib.suppress(OSError):
            IN_FLIGHT.share(self._in_flight)


def _user_of(connection: socket.socket) -> int:
    """Who is at the other end (SO_PEERCRED of unix(7))."""
    return int(CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[1])


def main() -> None:
    """Be the engine process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listener", type=int, help="file descriptor of a Unix socket that listens")
    parser.add_argument("master", type=int, help="process id of whoever starts this one")
    parser.add_argument("in_flight", type=Path, help="file that tells server processes what is being computed")
    parser.add_argument("pulse", type=int, help="file descriptor of a file that shows when this process was last well")
    given = parser.parse_args()
    keep_heaps()
    server = EngineServer(socket.socket(fileno=given.listener), given.in_flight, Pulse(given.pulse))
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # a terminal sends these to all its processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.end())
    end_with_parent()
    if os.getppid() != given.master:  # it ended before that
        server.end()
    tidy_when_idle(lambda: server.answered)
    server.run()


if __name__ == "__main__":
    main()
