"""Control groups as cgroups(7) and the kernel's documents describe them, laid out in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.utils.system import PROCESS_BYTES, available_cores, default_worker_count, memory_limit

HERE = len(os.sched_getaffinity(0))


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_cpu_affinity_counts_without_control_groups(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == HERE


@pytest.mark.parametrize(
    ("limit", "expected"), [("max 100000", HERE), ("100000 100000", 1), ("50000 100000", 1), ("99900000 100000", HERE)]
)
def test_version_2_limits_the_cores(tmp_path: Path, limit: str, expected: int) -> None:
    root = lay(tmp_path, {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": limit + "\n"})
    assert available_cores(root) == expected


def test_version_1_limits_the_cores(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/box\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
    }
    assert available_cores(lay(tmp_path, files)) == 1
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us").write_text("-1\n")
    assert available_cores(tmp_path) == HERE


def test_a_limit_of_a_parent_group_applies(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/pod/box\n", "sys/fs/cgroup/pod/memory.max": "1073741824\n"}
    root = lay(tmp_path, files | {"sys/fs/cgroup/pod/box/memory.max": "max\n"})
    assert memory_limit(root) == 2**30


def test_version_1_limits_the_memory(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**29}\n"}
    assert memory_limit(lay(tmp_path, files)) == 2**29


def test_the_memory_limits_the_number_of_processes(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(PROCESS_BYTES // 2)}
    assert default_worker_count(lay(tmp_path, files)) == 1
