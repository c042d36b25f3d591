"""A server process's place at the engine process: a connection, with a network that is held as long as it lasts."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict

from app.engines.shared.messages import Channel, Gone, Kind
from app.engines.shared.networks import Wanted
from app.engines.shared.room import Room, make_file
from app.errors import ModelFormatError
from app.types import FloatArray

PAUSE_SECONDS = 0.02


class Absent(Exception):
    """No engine process answers."""


class Refused(RuntimeError):
    """The engine process cannot load the network."""


class Ended(Exception):
    """The engine process has ended. ``process`` is its number."""

    def __init__(self, process: int, reason: object) -> None:
        super().__init__(str(reason))
        self.process = process


class Seat:
    """It is used by one thread at a time.

    :param row_shape: of the network's input, without the batch.
    """

    def __init__(self, channel: Channel, process: int, row_shape: tuple[int, ...]) -> None:
        self._channel = channel
        self._process = process
        self.row_shape = row_shape
        self._room: Room | None = None

    @classmethod
    def take(cls, address: bytes, wanted: Wanted, until: float) -> Seat:
        """Connect, and wait until the network is loaded.

        :param until: when to wait no longer for an engine process that lives, by the monotonic clock.
        :raises Absent: where none has answered by then, or none will.
        :raises Ended: where it ended while it loaded.
        :raises Refused: where the network cannot be loaded.
        """
        channel, process = _greet(address, wanted, until)
        try:
            kind, _, length = channel.receive(Kind.READY, Kind.REFUSED)
            if kind is Kind.REFUSED:
                raise Refused(channel.read_text(length))
            return cls(channel, process, tuple(channel.read_json(length)["row_shape"]))
        except Gone as gone:
            channel.close()
            raise Ended(process, gone) from None
        except BaseException:
            channel.close()
            raise

    def is_over(self) -> bool:
        """Whether the engine process has hung up. To be asked while nothing is."""
        return self._channel.has_something()

    def compute(self, rows: FloatArray) -> FloatArray:
        """Have rows (N, …) computed, float32: (N, classes).

        :raises Ended: where the engine process ended meanwhile.
        :raises ModelFormatError: where OpenVINO cannot compute them.
        """
        try:
            self._lay(rows)
            self._channel.ask(len(rows))
            kind, count, length = self._channel.receive(Kind.ANSWER, Kind.FAILED)
            if kind is Kind.FAILED:
                raise ModelFormatError(self._channel.read_text(length))
            return self._channel.read_rows(count, length)
        except Gone as gone:
            raise Ended(self._process, gone) from None

    def _lay(self, rows: FloatArray) -> None:
        """Put rows where the engine process sees them."""
        if self._room is None or rows.nbytes > self._room.size:
            file = make_file(rows.nbytes)
            try:
                self._channel.send_room(file, rows.nbytes)
                self._room = Room(file, rows.nbytes)
            finally:
                os.close(file)
        self._room.rows(len(rows), self.row_shape)[...] = rows

    def close(self) -> None:
        """Let go of it."""
        self._channel.close()


def _greet(address: bytes, wanted: Wanted, until: float) -> tuple[Channel, int]:
    """Connect, and wait for an engine process that lives. Gives its number, too."""
    while True:
        channel = Channel(_connect(address, until))
        try:
            channel.send_json(Kind.OPEN, asdict(wanted))
            channel.wait(until - time.monotonic())
            return channel, int(channel.read_text(channel.receive(Kind.HERE)[2]))
        except Gone as gone:  # it ended as soon as it had accepted
            channel.close()
            if time.monotonic() > until:
                raise Absent(str(gone)) from None
            time.sleep(PAUSE_SECONDS)
        except BaseException:
            channel.close()
            raise


def _connect(address: bytes, until: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    while True:
        try:
            connection.connect(address)
            connection.setblocking(True)
            return connection
        except BlockingIOError:  # more wait to be accepted than may
            if time.monotonic() > until:
                connection.close()
                raise Absent("nobody accepts connections") from None
            time.sleep(PAUSE_SECONDS)
        except OSError as error:
            connection.close()
            raise Absent(str(error)) from None
