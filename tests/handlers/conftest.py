"""Workers that are ended after the test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.handlers.pool import Workers
from app.handlers.types import HandlerSpec
from tests.handlers.archives import DEADLINE

Run = Callable[..., Workers]


def at_once(leaving: threading.Event, seconds: float) -> None:
    """Pause for no time."""


@pytest.fixture
def run() -> Iterator[Run]:
    """Start workers for an unpacked archive; a process that dies is restarted at once."""
    with contextlib.ExitStack() as stack:

        def start(folder: Path, handler: str = "service:handle", count: int = 1, **options: Any) -> Workers:
            wiring = {name: options.pop(name) for name in ("on_metric", "pause") if name in options}
            spec = HandlerSpec(options.pop("model_name", "model"), folder, handler, **options)
            workers = Workers(spec, **{"pause": at_once, **wiring})
            stack.callback(workers.close, DEADLINE)
            if count:
                workers.start(count, DEADLINE)
            return workers

        yield start
