from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.engines.in_flight import PROCESSES, Company, InFlight
from app.settings import ROOT

SIBLING = """
import sys
from pathlib import Path
from app.engines.in_flight import Company, InFlight
calls = InFlight()
calls.share(Path(sys.argv[1]))
for order in sys.stdin:
    with calls.counted() as company:
        print(company is Company.NOBODY, flush=True)
        sys.stdin.readline()
    print("done", flush=True)
"""


class Sibling:
    """Another process, which counts one call from ``starts`` to ``ends``."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SIBLING, str(path)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def starts(self) -> bool:
        return self._tell() == "True"

    def ends(self) -> None:
        assert self._tell() == "done"

    def killed(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _tell(self) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in-flight"


def alone(calls: InFlight) -> bool:
    return company(calls) is Company.NOBODY


def company(calls: InFlight) -> Company:
    with calls.counted() as answer:
        return answer


@pytest.mark.parametrize("shared", [False, True])
def test_the_second_call_of_a_process_is_not_alone(path: Path, shared: bool) -> None:
    calls = InFlight()
    if shared:
        calls.share(path)
    with calls.counted() as first, calls.counted() as second:
        assert (first, second) == (Company.NOBODY, Company.THIS_PROCESS)
    assert alone(calls)


def test_a_call_of_another_process_is_seen_while_it_lasts(path: Path) -> None:
    calls, sibling = InFlight(), Sibling(path)
    calls.share(path)
    assert sibling.starts()
    assert company(calls) is Company.OTHER_PROCESSES
    sibling.ends()
    assert alone(calls)
    with calls.counted():
        assert not sibling.starts()
    sibling.killed()


def test_the_calls_of_a_killed_process_go_when_the_next_one_starts(path: Path) -> None:
    calls, sibling = InFlight(), Sibling(path)
    calls.share(path)
    sibling.starts()
    sibling.killed()
    assert not alone(calls)
    successor = Sibling(path)
    assert successor.starts()
    successor.ends()
    assert alone(calls)
    successor.killed()


def test_a_call_that_fails_is_not_counted_for_ever(path: Path) -> None:
    calls = InFlight()
    calls.share(path)
    with pytest.raises(ValueError, match="broken"), calls.counted():
        raise ValueError("broken")
    assert alone(calls)


def test_more_calls_than_a_byte_holds_are_counted(path: Path) -> None:
    calls = InFlight()
    calls.share(path)
    started = [calls.counted() for _ in range(300)]
    assert [one.__enter__() for one in started].count(Company.NOBODY) == 1
    for one in started:
        one.__exit__(None, None, None)
    assert alone(calls)
    assert path.read_bytes() == bytes(PROCESSES)
