"""The outcome of a run: on the terminal, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from app.utils.files import atomic_write
from bench.parity.known import Verdict
from bench.parity.run import Result
from bench.parity.tables import columns


def exit_status(results: Sequence[Result], verdict: Verdict) -> int:
    """Return 0 if everything is the same or declared, and every check proved something."""
    return 0 if results and verdict.passed and not any(result.void for result in results) else 1


def print_report(results: Sequence[Result], verdict: Verdict) -> None:
    """Print the undeclared differences, then a table of all."""
    questions = {result.check.id: result.check.asks for result in results}
    for check, found in groupby(verdict.undeclared, lambda item: item.check):
        print(f"\n{check}: {questions[check]}")
        for item in found:
            print(f"  {item.aspect}\n    MMS     {item.mms}\n    Dimple  {item.dimple}")
    for result in results:
        if result.void:
            print(f"\n{result.check.id}: {result.check.asks}\n  proves nothing: {result.void}")
    for id, place in verdict.gone:
        print(f"\n{id}: declared for {place.check} ({place.aspect}), but it does not show there any more")
    print("\n" + columns(_rows(results, verdict)))
    print(f"\n{_summary(results, verdict)}")


def _rows(results: Sequence[Result], verdict: Verdict) -> list[list[str]]:
    counts = Counter(result.check.id.split(".")[0] for result in results)
    undeclared = Counter(item.check.split(".")[0] for item in verdict.undeclared)
    explained = Counter(item.check.split(".")[0] for found in verdict.explained.values() for item in found)
    void = Counter(result.check.id.split(".")[0] for result in results if result.void)
    rows = [["suite", "checks", "declared differences", "undeclared", "void"]]
    rows += [[suite, str(count), str(explained[suite]), str(undeclared[suite]), str(void[suite])]
             for suite, count in counts.items()]  # fmt: skip
    rows += [["declared as", "times", "", "", ""]]
    rows += [[id, str(len(found)), "", "", ""] for id, found in verdict.explained.items()]
    return rows


def _summary(results: Sequence[Result], verdict: Verdict) -> str:
    differing = {item.check for item in verdict.undeclared}
    void = sum(bool(result.void) for result in results)
    return (
        f"{len(results)} checks: {len(verdict.undeclared)} undeclared differences in {len(differing)} of them, "
        f"{void} that prove nothing, {len(verdict.gone)} declared that are gone"
    )


def write_report(path: Path, results: Sequence[Result], verdict: Verdict) -> Path:
    """Write everything as JSON; the file appears whole."""
    document = {
        "summary": _summary(results, verdict),
        "undeclared": [asdict(item) for item in verdict.undeclared],
        "gone": [{"id": id, **asdict(place)} for id, place in verdict.gone],
        "explained": {id: [asdict(item) for item in found] for id, found in verdict.explained.items()},
        "checks": [_result_document(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(document, indent=1))
    return path


def _result_document(result: Result) -> dict[str, Any]:
    answers = {
        kind: {"status": answer.status, "reason": answer.reason, "headers": dict(answer.headers),
               "body": answer.body[:2000].decode("utf-8", "backslashreplace")}
        for kind, answer in (("mms", result.mms), ("dimple", result.dimple))
    }  # fmt: skip
    return {"id": result.check.id, "asks": result.check.asks, "void": result.void, "seconds": result.seconds, **answers}
