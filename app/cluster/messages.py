"""What passes between a front's process and its gateway, through a pipe, pickled: both are ours, of one version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from app.cluster.plan import State

Kind = Literal["full", "late", "lost", "none", "wrong"]
"""Why there is no answer: the queue is full; time is over; the replica was lost, and the next one, too; there is no
replica; the model itself says so."""


@dataclass(frozen=True)
class Asked:
    """Something to do. Where ``number`` is 0, nobody waits for an answer."""

    number: int
    verb: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Said:
    """An answer."""

    number: int
    value: Any


@dataclass(frozen=True)
class Refused:
    """What is said in its place."""

    number: int
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Heard:
    """What the registrar says of all that this front needs; or, where ``lost`` is not empty, that it says nothing."""

    states: dict[str, State]
    lost: str = ""
