"""Models that crash the process that opens them first, which the server must not open."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.engines import conversion_process
from app.engines.loader import load
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.settings import ROOT
from tests.helpers import wait_until

SMILE = ROOT / "models" / "smile"


@pytest.fixture
def unconverted(tmp_path: Path) -> ModelFolder:
    """Return the smile model as it was trained."""
    path = shutil.copytree(SMILE, tmp_path / "models" / "smile", ignore=shutil.ignore_patterns("converted"))
    return open_model_folder(path)


SECONDS = 60


def child() -> psutil.Process | None:
    """Return the process that opens a model now."""
    for process in psutil.Process().children():
        try:
            if "app.engines.conversion_process" in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None


def wait_for_child(act: Callable[[psutil.Process], None]) -> None:
    found = wait_until(child)
    assert found is not None
    act(found)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, r"ends in a crash \(SIGSEGV\)"),
        (signal.SIGKILL, r"ends in a crash \(SIGKILL\)"),
        (signal.SIGPROF, "takes more than 180 s of processor time"),
    ],
)
def test_a_model_that_crashes_the_process_that_opens_it_is_refused(
    unconverted: ModelFolder, tmp_path: Path, number: int, reason: str
) -> None:
    """The process gets the signal of a crash in a C library, long before it has opened the model."""
    killer = threading.Thread(target=wait_for_child, args=(lambda process: process.send_signal(number),))
    killer.start()
    with pytest.raises(ModelFormatError, match=rf"smile cannot be opened: reading its files {reason}"):
        load(unconverted, "auto", tmp_path / "cache")
    killer.join()
    assert not [path for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")]


def test_a_model_that_never_finishes_opening_is_refused(
    unconverted: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_process, "LONGEST_SECONDS", 0.01)
    with pytest.raises(ModelFormatError, match=r"smile cannot be opened: reading its files takes more than 0\.01 s"):
        load(unconverted, "auto", tmp_path / "cache")


def test_the_time_limit_for_opening_ends_when_the_model_is_open(capfd: pytest.CaptureFixture[str]) -> None:
    signal.setitimer(signal.ITIMER_PROF, 1000)
    try:
        conversion_process.report_opened()
        assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
        assert capfd.readouterr().out.encode().strip() == conversion_process.OPENED
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
