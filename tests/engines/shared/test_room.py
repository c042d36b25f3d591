"""Memory that two processes have mapped."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest

from app.engines.shared.messages import Channel, Gone, Kind
from app.engines.shared.room import Room, make_file


def test_what_one_side_writes_the_other_reads() -> None:
    ours, theirs = (Channel(one) for one in socket.socketpair())
    file = make_file(48)
    ours.send_room(file, 48)
    here = Room(file, 48)
    os.close(file)
    kind, size, _ = theirs.receive(Kind.ROOM)
    there = theirs.take_room(size)
    here.rows(3, (4,))[...] = np.arange(12).reshape(3, 4)
    assert (kind, there.rows(2, (2, 2)).tolist()) == (Kind.ROOM, [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    ours.close()
    theirs.close()


@pytest.mark.parametrize("count", [0, 4])
def test_rows_that_do_not_fit_are_refused(count: int) -> None:
    file = make_file(48)
    room = Room(file, 48)
    os.close(file)
    with pytest.raises(ValueError, match="48 bytes"):
        room.rows(count, (4,))


def test_a_room_without_a_file_is_refused() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    ours.sendall(b".")
    with pytest.raises(Gone, match="without its file"):
        channel.take_room(48)
    ours.close()
    channel.close()
