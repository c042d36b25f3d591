"""Uses of the clocks: deadlines use the monotonic clock; uses of the wall clock are listed here, with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

APP = Path(__file__).parent.parent.parent / "app"
MAY = {  # package and file
    "security/tokens.py",  # the date on which a token ends
    "engines/cache.py",  # the age of files
    "serving/training_job.py",  # the start of a training, for other processes
    "serving/uploads.py",  # the age of files
    "server/host_metrics.py",  # a time stamp
    "telemetry/history.py",  # the minute of a record
    "web/instrumentation.py",  # time stamps
    "web/model_table.py",  # the last minutes of the history
    "handlers/metric.py",  # a time stamp
    "handlers/timeit_decorator.py",  # as Multi Model Server has it: printed, and nothing else
}
JUMPING = {"time", "time_ns"}


def takes_wall_clock(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in JUMPING
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
        for node in ast.walk(tree)
    )


def test_only_these_files_read_the_wall_clock() -> None:
    found = {
        f"{path.relative_to(APP).parts[0]}/{path.name}"
        for path in APP.rglob("*.py")
        if takes_wall_clock(ast.parse(path.read_text()))
    }
    assert found <= MAY


def test_a_program_that_reads_the_wall_clock_is_detected() -> None:
    assert takes_wall_clock(ast.parse("import time\nprint(time.time() + 3)"))
    assert not takes_wall_clock(ast.parse("import time\nprint(time.monotonic())"))
