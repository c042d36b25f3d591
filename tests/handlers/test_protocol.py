"""Invalid replies of a handler's process."""

from __future__ import annotations

import json
import socket
import struct
import tracemalloc
from typing import Any

import pytest

from app.handlers.protocol import Connection, ProtocolError

MOST = 1000


def reply(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("!I", len(text)) + text + body


@pytest.mark.parametrize(
    "sizes",
    [[2 * 10**10, -2 * 10**10], [-5, 5], [500, 501], [True], [1.5], ["1"], {"a": 1}, 5, None, [10**30], [[1]]],
)
def test_invalid_or_too_large_sizes_are_refused_before_memory_is_taken(sizes: Any) -> None:
    assert_unfit(reply({"answers": [], "sizes": sizes}, bytes(100)))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"[" * 900, b"\xff", b"nothing"])
def test_invalid_messages_are_refused(text: bytes) -> None:
    assert_unfit(reply(text))


def assert_unfit(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                Connection(ours, MOST).ask({}, (), 10)
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()
