"""A fault of a server under load, and the conditions that must hold while and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.reliability.books import PAUSE_SECONDS, Books, End, Kind, Rules, load, predictions
from bench.reliability.served import Served

Check = Callable[[], bool]


class Failed(Exception):
    """A condition that had to hold, and does not."""


@dataclass
class Scene:
    """A server under load, while something happens to it.

    :param notes: what an act found out, for the table.
    """

    served: Served
    books: Books = field(default_factory=Books)
    notes: list[str] = field(default_factory=list)
    memo: dict[str, object] = field(default_factory=dict)
    logged: int = 0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.logged = len(self.served.log_text())

    def is_over(self) -> None:
        """Mark the end of a fault that lasts: recovery begins now."""
        self.ended = time.monotonic()

    def log_text(self) -> str:
        """Return what the server has logged since the scene began."""
        return self.served.log_text()[self.logged :]

    def note(self, text: str) -> None:
        self.notes.append(text)

    def check(self, holds: bool, what: str) -> None:
        """:raises Failed: if something does not hold."""
        if not holds:
            raise Failed(f"{what}\n{self.served.log_text()[-2000:]}")


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    :param act: does it, and returns when it is done. The time to recovery counts from its beginning, or from where it
        says that the fault is over.
    :param recovered: whether all is as before.
    :param loaded: what is asked meanwhile.
    :param rules: what the fault excuses.
    """

    name: str
    act: Callable[[Scene], None]
    recovered: Callable[[Scene], bool]
    loaded: Callable[[], Sequence[Kind]] = predictions
    rules: Rules = Rules()


@dataclass(frozen=True)
class Row:
    """The result of a fault: requests, seconds to recovery, and the longest time of an answer. ``failed`` says what had
    to hold and did not.
    """

    name: str
    sent: int = 0
    answered: int = 0
    refused: int = 0
    cut: int = 0
    lost: int = 0
    unreached: int = 0
    recovery: float = 0.0
    slowest: float = 0.0
    notes: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    failed: str = ""

    @property
    def holds(self) -> bool:
        """Return whether no request was lost, and all conditions held."""
        return not self.lost and not self.failed


@dataclass(frozen=True)
class Size:
    """The amount of load, and the seconds before and after the fault. ``pause`` is the rest of a client between
    requests.
    """

    clients: int = 8
    before: float = 2.0
    after: float = 2.0
    pause: float = PAUSE_SECONDS


SMALL = Size(clients=4, before=0.2, after=0.2, pause=0.06)
"""For tests."""


def suffer(fault: Fault, served: Served, size: Size = SMALL) -> Row:
    """Run a fault on a running server.

    :raises Failed: if something that the fault checks does not hold.
    :raises NotInTime: if the server does not recover.
    """
    scene = Scene(served)
    with load(served.port, fault.loaded(), size.clients, fault.rules, size.pause) as books:
        scene.books = books
        time.sleep(size.before)
        began = time.monotonic()
        fault.act(scene)
        served.wait(lambda: fault.recovered(scene))
        recovery = time.monotonic() - max(began, scene.ended)
        time.sleep(size.after)
    ended = books.ended
    return Row(
        fault.name, books.sent, ended[End.ANSWERED], ended[End.REFUSED], ended[End.CUT], ended[End.LOST],
        books.unreached, recovery, books.slowest, tuple(scene.notes), tuple(books.samples),
    )  # fmt: skip
