"""The arrows between the rooms point one way, and heavy modules stay where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"
LEAVES = {
    "digests",
    "dispatch",
    "download",
    "errors",
    "idle",
    "lock",
    "machine",
    "parent",
    "picture_limits",
    "progress",
    "pulse",
    "reach",
    "request_id",
    "settings",
    "slots",
    "traces",
    "types",
}
MAY_IMPORT = {
    "web": {"access", "serving"},
    "cli": {"serving", "training", "evaluation", "zoo", "formats", "launch", "access", "cluster"},
    "launch": {"access"},
    "server": {"launch"},
    "access": set(),
    "serving": {"cluster", "engines", "vision", "formats", "handlers"},
    "cluster": {"engines", "vision", "formats"},
    "training": {"engines", "evaluation", "vision", "formats"},
    "evaluation": set(),
    "engines": {"formats"},
    "handlers": set(),
    "zoo": {"engines", "formats"},
    "vision": {"engines", "formats"},
    "formats": set(),
}
HEAVY = {"mxnet", "keras", "h5py", "cv2", "matplotlib", "sklearn", "openvino", "onnx", "gluoncv"}
HEAVY |= {"ray", "opentelemetry"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(room: str) -> list[Path]:
    return sorted((APP / room).rglob("*.py"))


def test_every_room_is_on_the_plan() -> None:
    rooms = {path.name for path in APP.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_its_arrows_allow(room: str) -> None:
    for path in modules(room):
        targets = {name.split(".")[1] for name in imported(ast.parse(path.read_text())) if name.startswith("app.")}
        assert targets <= MAY_IMPORT[room] | LEAVES | {room}, path


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_no_room(leaf: str) -> None:
    names = imported(ast.parse((APP / f"{leaf}.py").read_text()))
    assert {name.split(".")[1] for name in names if name.startswith("app.")} <= LEAVES


def test_only_the_web_and_the_command_line_know_flask() -> None:
    for room in sorted(set(MAY_IMPORT) - {"web", "cli"}):
        for path in modules(room):
            assert not {name.split(".")[0] for name in imported(ast.parse(path.read_text()))} & {"flask", "werkzeug"}


def test_building_the_application_imports_no_heavy_module() -> None:
    code = f"import sys, app; app.create_app(); print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=APP.parent)
    assert done.stdout.strip() == "[]"
