"""Who needs which deployment: what is to be deployed, and what may go. It knows nothing of Ray."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from app.cluster.plan import Plan

FORGET_SECONDS = 30.0
"""A front that was not heard of for so long has no say any more."""


@dataclass(frozen=True)
class _Claim:
    plan: Plan
    heard: float


class Claims:
    """What the fronts want. A front repeats its claims every second. Any thread may call.

    A deployment stays when its fronts fall silent: they may be on their way back. It goes when the last one gives it
    back, or when fronts have another content of the same model and nobody has this one.
    """

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, dict[str, _Claim]] = {}
        self._given_back: set[str] = set()
        self._begun = now

    def keep(self, front: str, plans: Iterable[Plan], now: float) -> None:
        """Note what a front needs."""
        with self._lock:
            for plan in plans:
                self._claims.setdefault(plan.key, {})[front] = _Claim(plan, now)
                self._given_back.discard(plan.key)

    def release(self, front: str, key: str) -> None:
        """Note that a front needs a deployment no longer."""
        with self._lock:
            claims = self._claims.get(key, {})
            claims.pop(front, None)
            if not claims:
                self._given_back.add(key)

    def wanted(self) -> list[Plan]:
        """What is to be deployed. Of what several want of the same deployment, that counts which was told last; where
        that is said of several, the larger number."""
        with self._lock:
            claimed = [list(claims.values()) for claims in self._claims.values() if claims]
        return [max((one.plan for one in claims), key=_order) for claims in claimed]

    def superfluous(self, deployed: Iterable[str], now: float) -> list[str]:
        """The keys of those deployments that may go."""
        with self._lock:
            heard = {_name(key) for key in self._claims if self._is_heard(key, now)}
            silent = [key for key in deployed if not self._is_heard(key, now)]
            going = [
                key
                for key in silent
                if (key in self._given_back and not self._claims.get(key))
                or (_name(key) in heard and now - self._begun > FORGET_SECONDS)
            ]
            for key in going:
                self._claims.pop(key, None)
        return going

    def _is_heard(self, key: str, now: float) -> bool:
        return any(now - one.heard <= FORGET_SECONDS for one in self._claims.get(key, {}).values())


def _order(plan: Plan) -> tuple[float, int, int]:
    return plan.scale.told, plan.scale.max_workers, plan.scale.min_workers


def _name(key: str) -> str:
    return key.rsplit("-", 2)[0]
