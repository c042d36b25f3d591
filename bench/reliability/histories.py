"""The observations of clients of changing names, checked against what a registry may do.

Every call has a beginning and an end, and takes effect at one moment between them. Calls whose answer was lost may have
taken effect at any later moment, or not at all. From that follows, whatever else goes on:

- an answer is of a version that was not superseded before the call began, and was being registered when it ended;
- a name is not found only if it need not have been registered at some moment of the call;
- a registration conflicts only with one that may have been there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

DEADLINE = 60.0
"""Seconds within which every call must end."""


class Op(StrEnum):
    """An operation of a client on a name."""

    REGISTER = "register"
    REPLACE = "replace"
    SCALE = "scale"
    UNREGISTER = "unregister"
    DESCRIBE = "describe"
    PREDICT = "predict"


@dataclass(frozen=True)
class Call:
    """One call.

    :param status: of HTTP; 0 if the connection was lost.
    :param version: that was registered, or that answered; empty if none was.
    :param text: of an answer that is no success.
    """

    op: Op
    name: str
    begun: float
    ended: float
    status: int
    version: str = ""
    text: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status in (200, 202)

    @property
    def is_lost(self) -> bool:
        """Return whether it is unknown if the call took effect."""
        return self.status in (0, 500, 503)

    @property
    def puts(self) -> bool:
        """Return whether the call may have put a version under the name."""
        return self.op in (Op.REGISTER, Op.REPLACE) and (self.succeeded or self.is_lost)

    @property
    def takes(self) -> bool:
        """Return whether the call may have removed what was under the name."""
        return self.op is Op.UNREGISTER and (self.succeeded or self.is_lost)

    @property
    def last(self) -> float:
        """Return the last moment at which it may have taken effect."""
        return math.inf if self.is_lost else self.ended


def mistakes(calls: Sequence[Call]) -> Iterator[str]:
    """Yield each impossible answer in one line."""
    by_name: dict[str, list[Call]] = {}
    for call in calls:
        by_name.setdefault(call.name, []).append(call)
    for name, those in sorted(by_name.items()):
        changes = [item for item in those if item.puts or item.takes]
        for call in those:
            if call.ended - call.begun > DEADLINE:
                yield f"{name}: {call.op} took {call.ended - call.begun:.0f} s"
            reason = _mistake(call, [change for change in changes if change is not call])
            if reason:
                yield f"{name}: {call.op} at {call.begun:.3f}-{call.ended:.3f} {reason}"


def _mistake(call: Call, changes: Sequence[Call]) -> str:
    if call.status == 409:
        there = any(change.puts and change.begun < call.ended for change in changes)
        return "" if there else "conflicts with nothing"
    if call.status == 404:
        return _lost(call, changes)
    if call.op is Op.PREDICT and call.succeeded:
        return _stale(call, changes)
    if not call.succeeded and not call.is_lost:
        return f"was answered {call.status}: {call.text}"
    return f"was answered 500: {call.text}" if call.status == 500 else ""


def _stale(call: Call, changes: Sequence[Call]) -> str:
    """Return why an answer cannot be of its version; empty if it can."""
    own = [
        change for change in changes if change.puts and change.version == call.version and change.begun <= call.ended
    ]
    if not own:
        return f"was answered by {call.version}, which nobody had registered"
    for put in own:
        later = (change for change in changes if change.succeeded and change is not put and change.begun > put.last)
        if not any(item.ended < call.begun for item in later):
            return ""
    return f"was answered by {call.version}, which another change had ended before"


def _lost(call: Call, changes: Sequence[Call]) -> str:
    """Return why a name cannot have been missing; empty if it can."""
    for put in changes:
        taken = (change for change in changes if change.takes and change.begun < call.ended and change.last > put.begun)
        if put.puts and put.succeeded and put.ended < call.begun and not any(taken):
            return f"found nothing, though {put.version} was registered at {put.ended:.3f}, and nobody took it away"
    return ""
