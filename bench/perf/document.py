"""The measured part of ``docs/performance.md``: tables of Markdown between two markers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.perf.figures import (
    Goal,
    Spread,
    by_round,
    goals,
    lost,
    of_engine,
    of_runs,
    p50,
    p99,
    per_second,
    pss,
    ratios,
    rss,
    spread,
    start_seconds,
    to_mms,
)
from bench.perf.records import BENTOML, DIMPLE, ENGINE, LITSERVE, MMS, TUTORIAL, Cell, Record, Run
from bench.perf.subjects import ROWS, TITLES

CONNECTIONS = (1, 8, 100)
NONE, DASH, TIMES = "\u2013", "\u2013", "\u00d7"
SERVERS = {
    MMS: "MMS",
    DIMPLE: "Dimple",
    BENTOML: "BentoML",
    LITSERVE: "LitServe",
    TUTORIAL: "tutorial's server",
    ENGINE: "engine alone",
}
HTTP_SERVERS = [server for server in SERVERS if server != ENGINE]
BENCH = ("<!-- performance: start; written by make bench -->", "<!-- performance: end -->")
SOAK = ("<!-- soak: start; written by make soak -->", "<!-- soak: end -->")


def between(document: str, markers: tuple[str, str], text: str) -> str:
    """Return a document with a text between two markers.

    :raises ValueError: if the markers are not there, once each and in their order.
    """
    start, end = markers
    before, found, rest = document.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed or any(mark in before + after for mark in markers):
        raise ValueError(f"the document must have, once each, the lines\n{start}\n{end}")
    return f"{before}{start}\n{text}{end}{after}"


def write_between(path: Path, markers: tuple[str, str], text: str) -> None:
    """Write a text between two markers of a file, which is replaced as a whole."""
    content = between(path.read_text(encoding="utf-8"), markers, text)
    new = path.with_name(path.name + ".new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown; its first column is aligned on the left, the others on the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, rule, *rows))


def number(value: float) -> str:
    """Return a number with three significant digits: 0.284, 12.3, 1,670."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def with_spread(found: Spread | None, sign: str = "") -> str:
    """Return the median with minimum and maximum in brackets; a dash if nothing was measured.

    :param sign: that follows the median.
    """
    if found is None:
        return NONE
    return f"{number(found.median)}{sign} ({number(found.low)}{DASH}{number(found.high)})"


def performance(record: Record) -> str:
    """Return everything that ``make bench`` reports."""
    parts = [_measured(record), "### What was to be reached\n", _goals(record), "![ratios](performance/ratios.png)\n"]
    for title, figure, name in (
        ("Requests per second", per_second, "throughput"),
        ("Latency, median (ms)", p50, "latency"),
        ("Latency, 99th percentile (ms)", p99, ""),
    ):
        parts += [f"### {title}\n", _cells(record, figure)]
        parts += [f"![{title}](performance/{name}.png)\n"] if name else []
    parts += ["### Requests lost or refused\n", _losses(record), "### What HTTP costs\n", _http(record)]
    parts += ["### Memory and start\n", _runs(record), "![memory and start](performance/resources.png)\n"]
    parts += ["### Where a request's time goes\n", _profile(record), "![profile](performance/profile.png)\n"]
    return "\n".join(["", *parts, ""])


def _measured(record: Record) -> str:
    machine = "".join(f"| {name} | {value} |\n" for name, value in record.machine.items())
    options = record.options
    models = "".join(f"| {TITLES[name]} | {origin} |\n" for name, origin in record.origins.items())
    agreed = ", ".join(f"{TITLES[name]} {value:.0e}" for name, value in record.agreement.items())
    return (
        f"| | |\n|---|---|\n{machine}{models}\n"
        f"{options['rounds']} rounds, {number(options['seconds'])} s a cell, {options['date']}. Figures are medians "
        "over the rounds, with the least and the most; ratios are taken within a round. Largest difference of a "
        f"probability between the two servers' answers: {agreed}.\n"
    )


def _goals(record: Record) -> str:
    return table(("", "goal", "measured", "reached"), [_goal(goal) for goal in goals(record)])


def _goal(one: Goal) -> tuple[str, str, str, str]:
    sign = "" if one.limit == 0 else TIMES
    title = TITLES.get(one.model, "all together")
    limit = f"{'≥' if one.at_least else '≤'} {one.limit:g}{sign}" if sign else "none"
    reached = {True: "yes", False: "**no**", None: NONE}[one.reached]
    return f"{title}: {one.what}", limit, with_spread(one.measured, sign), reached


def _cells(record: Record, figure: Callable[[Cell], float]) -> str:
    others = (BENTOML, LITSERVE, ENGINE, TUTORIAL)
    head = ("model, connections", "MMS", "Dimple", "Dimple/MMS", *(SERVERS[server] for server in others))
    rows = []
    for model in _models(record):
        for connections in CONNECTIONS:
            found = {
                server: with_spread(spread(list(by_round(record, server, model, connections, figure).values())))
                for server in SERVERS
            }
            ratio = with_spread(to_mms(record, model, connections, figure), TIMES)
            title = f"{TITLES[model]}, {connections}"
            rows.append((title, found[MMS], found[DIMPLE], ratio, *(found[server] for server in others)))
    return table(head, rows)


def _losses(record: Record) -> str:
    rows = []
    for model in _models(record):
        for connections in CONNECTIONS:
            found = [lost(record, model, connections, server) for server in HTTP_SERVERS]
            requests = sum(by_round(record, DIMPLE, model, connections, lambda item: item.complete).values())
            counts = [number(sum(item)) if item else NONE for item in found]
            rows.append((f"{TITLES[model]}, {connections}", *counts, f"{requests:,.0f}"))
    head = ("model, connections", *(SERVERS[server] for server in HTTP_SERVERS), "asked of Dimple")
    return table(head, rows)


def _http(record: Record) -> str:
    rows = [
        (f"{TITLES[model]}, {connections}", with_spread(of_engine(record, model, connections), TIMES))
        for model in _models(record)
        for connections in (1, 8)
    ]
    return table(("model, connections", "Dimple's requests/s to the engine alone's"), rows)


def _runs(record: Record) -> str:
    figures: tuple[tuple[str, Callable[[Run], float]], ...] = (
        ("memory, PSS (MiB)", pss),
        ("memory, RSS (MiB)", rss),
        ("start to first answers (s)", start_seconds),
        ("processes", lambda one: one.processes),
    )
    rows = []
    for title, figure in figures:
        found = [of_runs(record, server, figure) for server in (MMS, DIMPLE, TUTORIAL)]
        mms, ours, tutorial = (with_spread(spread(list(item.values()))) for item in found)
        rows.append((title, mms, ours, with_spread(spread(ratios(found[1], found[0])), TIMES), tutorial))
    return table(("all models", "MMS", "Dimple", "Dimple/MMS", "tutorial's server (smile only)"), rows)


def _profile(record: Record) -> str:
    names = list(record.profile[0].milliseconds) if record.profile else []
    rows = [
        (f"{TITLES[item.model]}, {item.connections}", *(f"{value:.2f}" for value in item.milliseconds.values()))
        for item in record.profile
    ]
    return table(("mean ms; model, connections", *names), rows)


def _models(record: Record) -> list[str]:
    return [name for name in ROWS if any(cell.model == name for cell in record.cells)]
