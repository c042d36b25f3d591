"""The drawing of the packages of ``app`` and their imports: ``make architecture`` writes it to architecture.svg.

A package stands above everything that it imports. Arrows that follow from others are left out, and so are arrows to the
modules at the bottom, which nearly every package imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "app"
PURPOSES = {
    "web": "routes and pages, with Flask",
    "cli": "bin/dimple and flask --app app",
    "serving": "from a picture to its answer",
    "server": "gunicorn's worker and master",
    "backend": "registry, queues, slow networks",
    "training": "data sets, training, evaluation",
    "zoo": "networks by name",
    "engines": "OpenVINO, MXNet, Keras, Ray",
    "handlers": "processes for archives' own code",
    "formats": "model folders, archives, files",
    "vision": "decode, preprocess, find faces",
    "security": "tokens, rates, URLs",
    "telemetry": "metrics, traces, request ids",
}
BASE = {"errors", "types", "utils", "settings"}
WIDTH, HEIGHT, GAP, LEVEL, MARGIN, APART = 230, 56, 30, 112, 24, 26
STYLE = """
  svg { --paper: #ffffff; --box: #f2f4f8; --line: #5b6577; --ink: #1b2330; --faint: #556070; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #14181f; --box: #232a35; --line: #93a0b4; --ink: #eef2f8; --faint: #b3bdcc; }
  }
  .paper { fill: var(--paper); } .box { fill: var(--box); stroke: var(--line); }
  .arrow { fill: none; stroke: var(--line); stroke-width: 1.5; } .head { fill: var(--line); }
  text { font-family: system-ui, sans-serif; text-anchor: middle; fill: var(--ink); }
  .name { font-size: 16px; font-weight: 600; } .purpose { font-size: 12px; fill: var(--faint); }
"""

Graph = dict[str, set[str]]
Point = tuple[float, float]


def import_graph() -> Graph:
    """Return the packages of ``app`` with the packages that their modules import, wherever in a module."""
    packages = {path.stem for path in APP.iterdir() if path.is_dir() or path.suffix == ".py"}
    packages -= {"__init__", "__pycache__"}
    graph: Graph = {name: set() for name in packages}
    for path in APP.rglob("*.py"):
        package = path.relative_to(APP).parts[0].removesuffix(".py")
        if package in graph:
            graph[package] |= set(_imported(ast.parse(path.read_text(encoding="utf-8")))) & packages - {package}
    return graph


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("app."))


def without_implied(graph: Graph) -> Graph:
    """Return the graph without the edges that follow from others."""

    def reachable(name: str) -> set[str]:
        return graph[name].union(*(reachable(target) for target in graph[name]))

    return {
        name: {target for target in targets if not any(target in reachable(other) for other in targets - {target})}
        for name, targets in graph.items()
    }


def levels_of(graph: Graph) -> dict[str, int]:
    """Return each node's level: one more than the highest of the nodes that it points to."""
    levels: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in levels:
            levels[name] = max((level(target) + 1 for target in graph[name]), default=0)
        return levels[name]

    for name in graph:
        level(name)
    return levels


def rows_of(graph: Graph) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of nodes, the lowest first, and the arrows as paths through the rows, the highest node first.

    Where an arrow passes a row, the row has a place for it, named ``from>to``. A row's order is that of the middles of
    the nodes that point to them, which keeps arrows from crossing.
    """
    levels = levels_of(graph)
    rows: list[list[str]] = [[] for _ in range(max(levels.values()) + 1)]
    for name in sorted(graph, key=list(PURPOSES).index):
        rows[levels[name]].append(name)
    paths = []
    for name in graph:
        for target in sorted(graph[name]):
            between = range(levels[name] - 1, levels[target], -1)
            for level in between:
                rows[level].append(f"{name}>{target}")
            paths.append([name, *(f"{name}>{target}" for _ in between), target])
    above: dict[str, list[str]] = {}
    for path in paths:
        for upper, lower in pairwise(path):
            if upper != lower:
                above.setdefault(lower, []).append(upper)
    for level in range(len(rows) - 2, -1, -1):
        places = {name: _middle(rows, other, name) for other in range(level + 1, len(rows)) for name in rows[other]}

        def wanted(name: str, places: dict[str, float] = places) -> float:
            upper = [places[item] for item in above.get(name, ()) if item in places]
            return sum(upper) / len(upper) if upper else 0.5

        rows[level].sort(key=wanted)
    return rows, paths


def _middle(rows: list[list[str]], level: int, name: str) -> float:
    return (rows[level].index(name) + 0.5) / len(rows[level])


def svg() -> str:
    """Return the drawing."""
    graph = import_graph()
    missing = set(graph) - BASE ^ set(PURPOSES)
    if missing:
        sys.exit(f"docs/draw_architecture.py: PURPOSES and app/ differ in {', '.join(sorted(missing))}")
    upper = without_implied({name: targets - BASE for name, targets in graph.items() if name not in BASE})
    rows, paths = rows_of(upper)
    whole = max(len(row) for row in rows) * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = len(rows) * LEVEL + HEIGHT + 2 * MARGIN
    spots = {}
    for level, row in enumerate(rows):
        for number, name in enumerate(row):
            middle = whole / 2 + (number - (len(row) - 1) / 2) * (WIDTH + GAP)
            spots[name, level] = (middle, MARGIN + (len(rows) - 1 - level) * LEVEL)
    levels = levels_of(upper)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {height}" role="img" '
        'aria-label="The packages of app and their imports">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="paper" width="{whole}" height="{height}" rx="8"/>',
    ]
    arrows = [[spots[name, levels[path[0]] - step] for step, name in enumerate(path)] for path in sorted(paths)]
    parts += [_arrow(points) for points in spread(arrows)]
    for level, row in enumerate(rows):
        for name in row:
            if name in PURPOSES:
                parts.append(_box(*spots[name, level], WIDTH, name, PURPOSES[name]))
    base = ", ".join(sorted(BASE))
    parts.append(_box(whole / 2, height - MARGIN - HEIGHT, whole - 2 * MARGIN, base, "imported by nearly all packages"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def spread(arrows: list[list[Point]]) -> list[list[Point]]:
    """Move the ends of the arrows apart that begin or end at the same node."""
    moved = [list(points) for points in arrows]
    for end, next_to_it in ((0, 1), (-1, -2)):
        for node in {points[end] for points in arrows}:
            same = sorted(
                (points[next_to_it][0], number) for number, points in enumerate(arrows) if points[end] == node
            )
            for place, (_, number) in enumerate(same):
                moved[number][end] = (node[0] + (place - (len(same) - 1) / 2) * APART, node[1])
    return moved


def _arrow(points: list[Point]) -> str:
    (x, y), *others = points
    text = f"M{x:g} {y + HEIGHT:g}"
    y += HEIGHT
    for number, (to_x, to_y) in enumerate(others):
        bend = (to_y - y) / 2
        text += f" C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} {to_x:g} {to_y:g}"
        x, y = to_x, to_y
        if number < len(others) - 1:  # straight past the boxes of a row
            y += HEIGHT
            text += f" L{x:g} {y:g}"
    return f'<path class="arrow" d="{text}" marker-end="url(#head)"/>'


def _box(middle: float, top: float, width: float, name: str, purpose: str) -> str:
    return (
        f'<rect class="box" x="{middle - width / 2:g}" y="{top:g}" width="{width:g}" height="{HEIGHT}" rx="8"/>'
        f'<text class="name" x="{middle:g}" y="{top + 24:g}">{escape(name)}</text>'
        f'<text class="purpose" x="{middle:g}" y="{top + 43:g}">{escape(purpose)}</text>'
    )


if __name__ == "__main__":
    Path(__file__).with_name("architecture.svg").write_text(svg(), encoding="utf-8")
