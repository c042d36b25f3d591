"""Messages and errors between two processes, and memory that both have mapped."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
import pytest

from app.backend.protocol import Channel, Disconnected, Kind, error_from
from app.errors import DimpleError, HandlerLoadError, ModelNotFound, QueueFull

Sides = tuple[Channel, Channel]


@pytest.fixture
def sides() -> Iterator[Sides]:
    one, other = (Channel(end) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_each_side_reads_the_rows_that_the_other_writes(sides: Sides) -> None:
    ours, theirs = sides
    here = ours.send_buffer(48)
    kind, size, *_ = theirs.receive(Kind.BUFFER)
    there = theirs.receive_buffer(size)
    here.rows(3, (4,))[...] = np.arange(12).reshape(3, 4)
    assert (kind, there.rows(2, (2, 2)).tolist()) == (Kind.BUFFER, [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])


@pytest.mark.parametrize("count", [0, 4])
def test_rows_that_do_not_fit_are_refused(sides: Sides, count: int) -> None:
    buffer = sides[0].send_buffer(48)
    with pytest.raises(ValueError, match="48 bytes"):
        buffer.rows(count, (4,))


def test_a_buffer_without_a_file_is_refused() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    ours.sendall(b".")
    with pytest.raises(Disconnected, match="without its file"):
        channel.receive_buffer(48)
    ours.close()
    channel.close()


def test_a_document_and_byte_strings_arrive_as_they_were_sent(sides: Sides) -> None:
    ours, theirs = sides
    ours.send(Kind.CALL, {"op": "x", "n": [1, None]}, [b"", b"\xff\x00" * 1000], generation=7)
    _, text, length, generation, *_ = theirs.receive(Kind.CALL)
    assert theirs.read(text, length) == ({"op": "x", "n": [1, None]}, [b"", b"\xff\x00" * 1000])
    assert generation == 7


@pytest.mark.parametrize(
    "error",
    [ModelNotFound("a", ["b"]), QueueFull("a"), HandlerLoadError("a", "h", "no memory", 507)],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_raised_unchanged_on_the_other_side(sides: Sides, error: DimpleError) -> None:
    ours, theirs = sides
    ours.send_error(error)
    _, text, length, *_ = theirs.receive(Kind.FAILED)
    found = error_from(theirs.read(text, length)[0])
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_a_message_of_another_kind_is_refused(sides: Sides) -> None:
    ours, theirs = sides
    ours.send(Kind.DONE)
    with pytest.raises(Disconnected, match="expected CALL"):
        theirs.receive(Kind.CALL)
