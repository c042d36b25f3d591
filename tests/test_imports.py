"""The imports between packages, which go in one direction, and of heavy libraries, which only their users import."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"
MAY_IMPORT = {
    "web": {"serving", "backend", "handlers", "security", "telemetry", "settings"},
    "cli": {"serving", "backend", "engines", "formats", "security", "server", "settings", "training", "zoo"},
    "server": {"backend", "security", "telemetry", "zoo", "settings"},
    "serving": {"backend", "engines", "handlers", "vision", "formats", "security", "telemetry", "settings"},
    "backend": {"engines", "handlers", "formats", "security", "telemetry", "settings"},
    "training": {"engines", "vision", "formats", "settings"},
    "zoo": {"engines", "formats", "settings"},
    "engines": {"vision", "formats", "settings"},
    "handlers": {"formats", "settings"},
    "vision": {"settings"},
    "formats": {"settings"},
    "security": {"settings"},
    "telemetry": {"settings"},
    "settings": set(),
    "utils": set(),
    "errors": set(),
    "types": set(),
}
"""Every package, and the others that it may import; all may import LEAVES."""
LEAVES = {"errors", "types", "utils"}
HEAVY = {"mxnet", "keras", "h5py", "cv2", "matplotlib", "sklearn", "openvino", "onnx", "gluoncv"}
HEAVY |= {"ray", "opentelemetry"}

Graph = dict[str, set[str]]


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Return the names that a module imports, inside functions, too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


def modules(package: str) -> list[Path]:
    return sorted((APP / package).rglob("*.py"))


def import_graph() -> Graph:
    """Return the modules of ``app``, each with the modules of ``app`` that it imports."""
    paths = {".".join(path.relative_to(APP.parent).with_suffix("").parts): path for path in modules("")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph: Graph = {}
    for name, path in paths.items():
        targets = set()
        for target in imported(path):
            while target and target not in paths:
                target = target.rpartition(".")[0]
            targets.add(target)
        graph[name] = targets - {name, ""}
    return graph


def children(graph: Graph, package: str) -> Graph:
    """Return the modules and packages directly inside a package, each with the others that its modules import."""

    def child(name: str) -> str:
        return name.removeprefix(f"{package}.").partition(".")[0] if name.startswith(f"{package}.") else ""

    found: Graph = {}
    for name, targets in graph.items():
        if one := child(name):
            found.setdefault(one, set()).update({child(target) for target in targets} - {one, ""})
    return found


def test_every_package_has_its_direction() -> None:
    packages = {path.stem for path in APP.iterdir() if path.name not in ("__pycache__", "__init__.py")}
    assert packages == set(MAY_IMPORT)


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_packages_below_it(package: str) -> None:
    for path in modules(package) or [APP / f"{package}.py"]:
        targets = {name.split(".")[1] for name in imported(path) if name.startswith("app.")}
        assert targets <= MAY_IMPORT[package] | LEAVES | {package}, path


def test_no_two_packages_import_each_other() -> None:
    packages = children(import_graph(), "app")
    assert list(TopologicalSorter(packages).static_order())
    TopologicalSorter(MAY_IMPORT).prepare()


def test_no_two_modules_import_each_other() -> None:
    TopologicalSorter(import_graph()).prepare()


def test_no_package_has_parts_that_import_each_other() -> None:
    graph = import_graph()
    packages = {name.rpartition(".")[0] for name in graph} - {""}
    assert {"app", "app.web", "app.web.pages", "app.formats.archive"} <= packages
    cycles = []
    for package in sorted(packages):
        try:
            TopologicalSorter(children(graph, package)).prepare()
        except CycleError as error:
            cycles.append((package, error.args[1]))
    assert cycles == []


def test_the_diagram_in_docs_shows_these_packages() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import draw_architecture; print(draw_architecture.svg(), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=APP.parent)
    drawing = (APP.parent / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert done.stdout == drawing, "make architecture draws it again"
    for package in set(MAY_IMPORT) - LEAVES - {"settings"}:
        assert f">{package}</text>" in drawing


def test_only_the_web_and_cli_packages_import_flask() -> None:
    for package in sorted(set(MAY_IMPORT) - {"web", "cli"}):
        for path in modules(package):
            assert not {name.split(".")[0] for name in imported(path)} & {"flask", "werkzeug"}


def test_building_the_application_imports_no_heavy_module() -> None:
    code = f"import sys, app; app.create_app(); print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=APP.parent)
    assert done.stdout.strip() == "[]"
