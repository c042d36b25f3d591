"""The oracle and the command of ``make fuzz``, and a short run of it for every reader."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import ModelFormatError
from app.settings import ROOT
from fuzz.child import MAX_CASE_BYTES
from fuzz.oracle import judge
from fuzz.seeds import archives
from fuzz.target import Target
from fuzz.targets import NAMES, load
from fuzz.watch import Watch


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watched"))


@pytest.fixture
def folder(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the only folder that may be written to, without Python's compiled files."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(watch.folder)
    yield watch.folder


def make_target(read: Any) -> Target:
    return Target("test", ".bin", list, lambda data, _random: data, read)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read_without_refusals(name: str, folder: Path) -> None:
    target = load(name)
    for number, data in enumerate(target.seeds()):
        assert len(data) <= MAX_CASE_BYTES
        path = folder / f"{number}{target.suffix}"
        path.write_bytes(data)
        assert target.read(path) is not None


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_either_read_or_refused(name: str, folder: Path, watch: Watch) -> None:
    target = load(name)
    seeds = target.seeds()
    path = folder / f"case{target.suffix}"
    path.write_bytes(seeds[0])
    target.read(path)  # completes the lazy imports, which do not count as faults

    @settings(derandomize=True, suppress_health_check=list(HealthCheck))
    @given(number=st.integers(0, len(seeds) - 1), seed=st.integers(0, 2**32), rounds=st.integers(1, 3))
    def check(number: int, seed: int, rounds: int) -> None:
        random, data = Random(seed), seeds[number]
        for _ in range(rounds):
            data = target.mutate(data, random)[:MAX_CASE_BYTES]
        path.write_bytes(data)
        fault = judge(target, path, watch)
        assert fault is None, fault

    check()


def refuse(text: str) -> Any:
    def read(_path: Path) -> None:
        raise ModelFormatError(text)

    return read


def recurse(_path: Path) -> None:
    recurse(_path)


def run_out_of_memory(_path: Path) -> None:
    try:
        raise MemoryError
    except MemoryError:
        raise ModelFormatError("it is too large") from None


def write_elsewhere(path: Path) -> None:
    (path.parent.parent / "escaped").write_text("")


def link_elsewhere(path: Path) -> None:
    os.symlink("/nowhere", path.parent.parent / "escaped")


def run_a_program(_path: Path) -> None:
    subprocess.run(["true"], check=False)


def write_beside(path: Path) -> None:
    path.with_name("beside").write_text("")
    path.with_name("beside").unlink()


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (refuse("it is damaged"), None),
        (write_beside, None),
        (lambda path: struct.unpack("<Q", b""), "error-"),
        (lambda path: {}["name"], "KeyError-"),
        (lambda path: sys.exit(1), "SystemExit-"),
        (recurse, "RecursionError-"),
        (run_out_of_memory, "MemoryError-"),
        (write_elsewhere, "touches-open"),
        (link_elsewhere, "touches-os.symlink"),
        (run_a_program, "touches-subprocess."),
    ],
)
def test_the_oracle_detects_forbidden_behaviour_of_a_reader(
    read: Any, kind: str | None, folder: Path, watch: Watch
) -> None:
    try:
        fault = judge(make_target(read), folder / "case.bin", watch)
    finally:
        escaped = folder.parent / "escaped"
        if escaped.is_symlink() or escaped.exists():
            escaped.unlink()
    assert (fault is None) == (kind is None)
    assert fault is None or fault.kind.startswith(str(kind))


def test_the_same_seed_gives_the_same_damage() -> None:
    for name in NAMES:
        target = load(name)
        seed = target.seeds()[0]
        assert target.mutate(seed, Random(7)) == target.mutate(seed, Random(7)), name


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz.run", "--findings", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_reads_the_given_number_of_cases(tmp_path: Path) -> None:
    result = run(tmp_path, "--cases", "50", "--only", "params", "torch_pickle", "--jobs", "2", "--seed", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "params 30/30" in result.stdout and "torch_pickle 20/20" in result.stdout
    assert "0 findings" in result.stdout


def test_a_saved_case_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    case = tmp_path / "archive" / "case.mar"
    case.write_bytes(archives()[0])
    result = run(tmp_path, "--replay", str(case))
    assert (result.returncode, "as it should be" in result.stdout) == (0, True)
    assert run(tmp_path, "--replay", str(tmp_path)).returncode != 0
