"""The run of the checks against both servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from app.utils.progress import echo, progress
from bench.parity.answer import NONE, Answer
from bench.parity.check import Check, probe
from bench.parity.compare import Difference, differences
from bench.parity.peer import NotReady, Peer

SLOW_SECONDS = 10.0


@dataclass(frozen=True)
class Result:
    """The result of one check.

    :param void: why it proves nothing: MMS itself did not answer as its contract says.
    :param seconds: of MMS and of Dimple.
    """

    check: Check
    mms: Answer
    dimple: Answer
    differences: Sequence[Difference]
    void: str = ""
    seconds: tuple[float, float] = field(default=(0.0, 0.0), compare=False)


def run(checks: Sequence[Check], mms: Peer, dimple: Peer, title: str) -> list[Result]:
    """Send a check to both servers at once, one check after the other: later checks build on earlier ones."""
    results = []
    with progress(title, len(checks), "checks") as bar, ThreadPoolExecutor(2) as pool:
        for check in checks:
            bar.note(check.id)
            started = [pool.submit(_timed, check.ask, peer) for peer in (mms, dimple)]
            (one, its), (other, others) = (future.result() for future in started)
            found = differences(check.id, one, other, check.masked, check.unordered)
            result = Result(check, one, other, found, _void(check, one), (its, others))
            results.append(result)
            if check.drops:
                for peer in (mms, dimple):
                    peer.ask("DELETE", f"/models/{check.drops}", management=True)
            _tell(result)
            bar.advance()
    return results


def _timed(ask: Callable[[Peer], Answer], peer: Peer) -> tuple[Answer, float]:
    started = time.monotonic()
    try:
        answer = ask(peer)
    except NotReady as error:  # of a probe that starts it again
        answer = Answer(0, "NotReady", NONE, str(error).encode())
    return answer, time.monotonic() - started


def not_run(title: str, error: Exception) -> Result:
    """Return the result that stands for the checks of a configuration under which a server did not start."""
    nothing = Answer(0, "NotReady", NONE, b"")
    echo(f"{title}: {error}")
    return Result(probe(f"{title}.start", "start both servers", lambda peer: nothing), nothing, nothing, (), str(error))


def _void(check: Check, mms: Answer) -> str:
    if mms.status != check.status:
        return f"MMS answered {mms.status} {mms.reason}, not {check.status}"
    if check.says not in mms.body.decode("utf-8", "replace"):
        return f"MMS's answer does not say {check.says!r}"
    return ""


def _tell(result: Result) -> None:
    if result.void:
        echo(f"{result.check.id}: {result.void}: {result.mms.body[:200]!r}")
    if max(result.seconds) > SLOW_SECONDS:
        echo(f"{result.check.id} took {result.seconds[0]:.0f} s and {result.seconds[1]:.0f} s")
