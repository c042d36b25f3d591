"""The check that a port is free, and its message."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from app.errors import LaunchError
from app.server import addresses


@pytest.fixture
def port() -> Iterator[int]:
    """Yield a port on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_busy_port_is_reported_with_its_process_and_the_next_step(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(LaunchError) as caught:
        addresses.check_free("127.0.0.1", port, "DIMPLE_PORT")
    text = str(caught.value)
    assert f"Port {port} of 127.0.0.1 is in use by process " in text
    assert f"process {os.getpid()} " in text or f"process {os.getppid()} " in text  # of the same command line
    assert "choose another port, as in DIMPLE_PORT=" in text
    assert "\n" not in text


def test_a_free_port_and_a_unix_socket_are_accepted(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    addresses.check_free("127.0.0.1", free, "DIMPLE_PORT")
    addresses.check_free("unix:/nowhere/dimple.sock", port, "DIMPLE_PORT")
