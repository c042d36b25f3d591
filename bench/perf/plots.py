"""The pictures of ``docs/performance/``: small PNGs, colours of Okabe and Ito."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.training.evaluation.plots import new_figure, write_png
from bench.perf.document import CONNECTIONS, SERVERS, number
from bench.perf.figures import Goal, Spread, by_round, goals, of_runs, p50, p99, per_second, pss, spread, start_seconds
from bench.perf.profile import STEPS
from bench.perf.records import BENTOML, DIMPLE, ENGINE, LITSERVE, MMS, TUTORIAL, Cell, Record
from bench.perf.subjects import ROWS, TITLES

COLOURS = {
    MMS: "#E69F00",
    DIMPLE: "#0072B2",
    BENTOML: "#009E73",
    LITSERVE: "#56B4E9",
    TUTORIAL: "#CC79A7",
    ENGINE: "#6b6b6b",
}
STEP_COLOURS = dict(zip(STEPS, ("#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#0072B2", "#D55E00"), strict=True))
GREEN, RED = "#009E73", "#D55E00"
WIDTH = 0.13
TICKS = (0.25, 0.5, 1, 2, 4)


def draw(record: Record, folder: Path) -> None:
    """Draw everything there is."""
    folder.mkdir(parents=True, exist_ok=True)
    _by_model(record, folder / "throughput.png", "requests per second", ((per_second, "", 1.0),))
    _by_model(
        record, folder / "latency.png", "ms: median, and 99th percentile (faint)", ((p99, "", 0.35), (p50, "", 1.0))
    )
    _resources(record, folder / "resources.png")
    _ratios([goal for goal in goals(record) if goal.limit and goal.measured], folder / "ratios.png")
    if record.profile:
        _profile(record, folder / "profile.png")


def _by_model(
    record: Record, path: Path, label: str, figures: Sequence[tuple[Callable[[Cell], float], str, float]]
) -> None:
    """Draw a panel for every network, with groups of bars for the connections; each figure replaces the one before."""
    models = [name for name in ROWS if any(cell.model == name for cell in record.cells)]
    canvas = new_figure(3.2 * len(models) + 0.6, 3.4)
    for panel, model in zip(canvas.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        for place, server in enumerate(SERVERS):
            for figure, _, alpha in figures:
                _bars(panel, record, (server, model), place, figure, alpha)
        panel.set(title=TITLES[model], yscale="log", xlabel="connections")
        panel.set_xticks([index + 2.5 * WIDTH for index in range(len(CONNECTIONS))], CONNECTIONS)
        _tidy(panel)
    first = canvas.axes[0]
    first.set_ylabel(label)
    first.legend(fontsize=7)
    write_png(canvas, path)


def _bars(
    panel: Any, record: Record, key: tuple[str, str], place: int, figure: Callable[[Cell], float], alpha: float
) -> None:
    server, model = key
    found = {
        index: measured
        for index, connections in enumerate(CONNECTIONS)
        if (measured := spread(list(by_round(record, server, model, connections, figure).values())))
    }
    if not found:
        return
    at = [index + place * WIDTH for index in found]
    tops = [item.median for item in found.values()]
    label = SERVERS[server] if alpha == 1 else None
    panel.bar(at, tops, WIDTH * 0.92, color=COLOURS[server], alpha=alpha, label=label, yerr=_errors(found.values()),
              error_kw={"linewidth": 0.8})  # fmt: skip


def _errors(found: Any) -> list[list[float]]:
    rows: list[Spread] = list(found)
    return [[row.median - row.low for row in rows], [row.high - row.median for row in rows]]


def _resources(record: Record, path: Path) -> None:
    canvas = new_figure(6.4, 3)
    figures = ((pss, "memory of all processes, PSS (MiB)"), (start_seconds, "start to first answers (s)"))
    for panel, (figure, label) in zip(canvas.subplots(1, 2), figures, strict=True):
        for server in (MMS, DIMPLE):
            measured = spread(list(of_runs(record, server, figure).values()))
            if measured:
                bar = panel.bar(SERVERS[server], measured.median, color=COLOURS[server], yerr=_errors([measured]))
                panel.bar_label(bar, [number(measured.median)], padding=2)
        panel.set_ylabel(label)
        panel.margins(y=0.15)
        _tidy(panel)
    write_png(canvas, path)


def _ratios(found: Sequence[Goal], path: Path) -> None:
    """Draw every goal as a bar: the measurement, in parts of the limit."""
    canvas = new_figure(6.4, 0.6 + 0.27 * len(found))
    panel = canvas.add_subplot()
    for row, item in enumerate(reversed(found)):
        assert item.measured
        low, middle, high = (
            value / item.limit for value in (item.measured.low, item.measured.median, item.measured.high)
        )
        panel.plot([low, high], [row, row], color="#6b6b6b", linewidth=1.5)
        panel.plot(middle, row, "o", color=GREEN if item.reached else RED)
        arrow = "→" if item.at_least else "←"
        panel.annotate(arrow, (1, row), ha="left" if item.at_least else "right", va="center", color="#6b6b6b")
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_yticks(
        range(len(found)), [f"{TITLES.get(item.model, 'all')}: {item.what}" for item in reversed(found)], fontsize=7
    )
    panel.set(xscale="log", xlabel="measured, in parts of the goal")
    panel.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], minor=False)
    panel.set_xticks([], minor=True)
    panel.set_title("reached on the side of the arrow", fontsize=8)
    _tidy(panel)
    write_png(canvas, path)


def _profile(record: Record, path: Path) -> None:
    canvas = new_figure(7, 0.9 + 0.42 * len(record.profile))
    panel = canvas.add_subplot()
    labels = []
    for row, item in enumerate(reversed(record.profile)):
        total, left = sum(item.milliseconds.values()) or 1.0, 0.0
        for name, milliseconds in item.milliseconds.items():
            part = milliseconds / total
            panel.barh(row, part, left=left, color=STEP_COLOURS[name], label=name if row == 0 else None)
            if part >= 0.07:
                panel.text(left + part / 2, row, number(milliseconds), ha="center", va="center", fontsize=7)
            left += part
        labels.append(f"{TITLES[item.model]}, {item.connections} ({number(total)} ms)")
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.set(xlim=(0, 1), xlabel="part of what the client waited; in the bars: milliseconds, mean")
    panel.legend(ncols=len(STEPS), loc="lower center", bbox_to_anchor=(0.4, 1.0), fontsize=7, frameon=False)
    write_png(canvas, path)


def _tidy(axes: Any) -> None:
    axes.grid(axis="both", color="#d9d9d9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
