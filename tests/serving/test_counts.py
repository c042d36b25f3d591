from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from app.serving.counts import Count, Counts
from app.settings import ROOT

CHILD = """
import sys
from pathlib import Path
from app.serving.counts import Counts
counts = Counts(Path(sys.argv[1]))
for name in sys.argv[2:]:
    counts.enter(name)
    counts.leave(name, name == "bad", 0.5)
counts.enter("stuck")
print(counts.all())
"""


def child(folder: Path, *names: str) -> str:
    command = [sys.executable, "-c", CHILD, str(folder), *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_request_is_inside_until_it_is_answered(tmp_path: Path) -> None:
    counts = Counts(tmp_path)
    counts.enter("smile")
    assert counts.all() == {"smile": Count(inside=1)}
    counts.leave("smile", failed=True, seconds=0.25)
    assert counts.all() == {"smile": Count(requests=1, errors=1, inside=0, seconds=0.25)}


def test_the_processes_of_one_server_are_added_up_also_when_they_have_ended(tmp_path: Path) -> None:
    child(tmp_path, "a", "a", "bad")
    seen = child(tmp_path, "a")
    assert str(Count(requests=3, inside=0, seconds=1.5)) in seen
    assert str(Count(requests=1, errors=1, inside=0, seconds=0.5)) in seen
    # what the first was working on when it ended, nobody is working on
    assert f"'stuck': {Count(inside=1)}" in seen


def test_what_an_earlier_server_counted_is_removed(tmp_path: Path) -> None:
    old = tmp_path / "1-1"  # the first process of the machine has not started at its first tick
    old.mkdir()
    Counts(tmp_path).enter("smile")
    assert not old.exists()


def test_only_so_many_models_are_counted(tmp_path: Path) -> None:
    counts = Counts(tmp_path)
    for number in range(300):
        counts.enter(f"model-{number}")
    assert len(counts.all()) == 256
