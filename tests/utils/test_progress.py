from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.utils import progress as module
from app.utils.progress import echo, progress, record_progress, step, track


class Clock:
    """A clock whose seconds pass only when it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


@contextmanager
def a_terminal() -> Iterator[Terminal]:
    """Yield standard error; no fixture, because pytest sets its own between the fixtures and the test."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        yield terminal


def test_a_log_gets_a_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 1000, "pictures") as task:
        for _ in range(25):  # 100 s
            clock.now += 4
            task.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8  # at 12, 24, … 96 s
    # 30 pictures in 12 s are 2.5 a second; the other 970 take 388 s
    assert lines[0] == "reading: 30 of 1,000 pictures, 2.5/s, 388 s left"


def test_short_tasks_print_no_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 2, "pictures") as task:
        clock.now += 9.9
        task.advance(2)
    assert capsys.readouterr().err == ""


def test_bytes_are_counted_in_megabytes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("fetching", 24_000_000, "B") as task:
        clock.now += 10
        task.advance(6_000_000)
    assert capsys.readouterr().err == "fetching: 6.0 of 24.0 MB, 0.6/s, 30 s left\n"


def test_earlier_progress_does_not_count_for_the_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("fetching", 24_000_000, "B", done=12_000_000) as task:
        clock.now += 10
        task.advance(6_000_000)
    assert capsys.readouterr().err == "fetching: 18.0 of 24.0 MB, 0.6/s, 10 s left\n"


def test_a_task_of_unknown_length_has_no_remaining_time(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("fetching", None, "B") as task:
        clock.now += 10
        task.advance(6_000_000)
    assert capsys.readouterr().err == "fetching: 6.0 MB, 0.6/s\n"


def test_a_note_is_shown_until_the_next_note(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", 4, "epochs") as task:
        for note in ("loss 0.9", "", "loss 0.3"):
            if note:
                task.note(note)
            clock.now += 10
            task.advance()
    assert [line.split(", ")[-1] for line in capsys.readouterr().err.splitlines()] == ["loss 0.9"] * 2 + ["loss 0.3"]


def test_a_rate_of_zero_does_not_divide_by_zero(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", 4, "epochs") as task:
        clock.now += 10
        task.advance(0)
    assert capsys.readouterr().err == "training: 0 of 4 epochs, 0.0/s\n"


def test_counting_passes_every_item_on(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for item in track("abc", "reading", 3, "letters"):
        seen.append(item)
        clock.now += 10
    assert seen == ["a", "b", "c"]
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "reading: 1 of 3 letters",
        "reading: 2 of 3 letters",
        "reading: 3 of 3 letters",
    ]


def test_a_terminal_gets_a_bar_that_is_removed_at_the_end() -> None:
    with a_terminal() as terminal, progress("reading", 1000, "pictures") as task:
        task.note("now a.jpg")
        task.advance(250)
        echo("a word between")
    written = terminal.getvalue()
    assert "reading:" in written
    assert "25%" in written
    assert "250/1000" in written
    assert "now a.jpg" in written
    assert "a word between\n" in written
    assert "\n" not in written.replace("a word between\n", "")


def test_a_terminal_shows_bytes_with_decimal_prefixes() -> None:
    with a_terminal() as terminal, progress("fetching", 24_000_000, "B", done=12_000_000):
        pass
    assert "12.0M/24.0M" in terminal.getvalue()


def test_the_progress_file_always_has_the_current_task(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress.json"
    record_progress(path)
    try:
        step("preparing")
        assert json.loads(path.read_text()) == {"title": "preparing", "done": 0, "total": None, "unit": ""}
        with progress("reading", 10, "pictures") as bar:
            clock.now += 0.1
            bar.advance()
            assert json.loads(path.read_text())["done"] == 0
            clock.now += 0.1
            bar.advance(3)
            assert json.loads(path.read_text()) == {"title": "reading", "done": 4, "total": 10, "unit": "pictures"}
            bar.advance(6)
            assert json.loads(path.read_text())["done"] == 10
    finally:
        record_progress(None)
    step("afterwards")
    assert json.loads(path.read_text())["title"] == "reading"
