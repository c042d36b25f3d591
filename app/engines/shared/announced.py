"""Where the engine process is. Nothing else, as gunicorn's first process has it, too, which is to stay small."""

from __future__ import annotations

_address = b""


def announce(address: bytes) -> None:
    """Say where the engine process listens, to this process and those that it forks; empty where there is none.

    :param address: of a Unix socket, as :meth:`socket.socket.getsockname` gives it.
    """
    global _address
    _address = address


def announced() -> bytes:
    """What was said last."""
    return _address
