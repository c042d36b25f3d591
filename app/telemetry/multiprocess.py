"""Metrics of all processes of a server, including ended ones.

Every process counts in its own files, in the format of ``prometheus_client``. They are mapped into memory, so counting
takes neither a lock between processes nor a system call. They are in a folder of the server, named after the process
that started it. A reader sums them. Counts outlive their process: files of ended processes are merged into one, so that
there are never more files than processes. Gauges end with their process.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import Metric, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from app.utils.files import file_lock

DEAD = "ended"
FIRST_BYTES = 2**16
"""Initial size of a file."""
ENTRY_BYTES = 64
"""Upper bound of an entry's size beside its key."""
SUMMED = ("counter", "histogram")
"""Kinds of files whose numbers outlive their process."""

_folder: Path | None = None


def share(parent: Path) -> None:
    """Share this process's metrics with all processes that have the same parent. Call this once, before
    :mod:`app.telemetry.metrics` is imported, in the process that counts and not before it forks.

    :param parent: the folder of the servers' folders; folders of ended servers are removed.
    """
    global _folder
    _folder = parent / process_key(os.getppid())
    _folder.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        if not is_alive(other.name):
            shutil.rmtree(other, ignore_errors=True)
    values.ValueClass = _values_in(_folder, process_key(os.getpid()))


@contextmanager
def measured_start(parent: Path) -> Iterator[None]:
    """Call :func:`share`, and measure the start of this process as a server, which is the body of the context."""
    started = time.perf_counter()
    share(parent)
    from app.telemetry.metrics import worker_started

    yield
    worker_started(time.perf_counter() - started)


def collect() -> list[Metric]:
    """Return the sums over all processes, as Prometheus metrics."""
    if _folder is None:
        from app.telemetry.metrics import REGISTRY

        return list(REGISTRY.collect())
    with file_lock(_folder / "lock"):
        with suppress(OSError):  # disk full: they are summed without merging
            _merge_dead(_folder)
        return list(MultiProcessCollector.merge([str(path) for path in _folder.glob("*.db") if _is_begun(path)]))


def processes() -> list[int]:
    """Return the server's live processes, or only this one if nothing is shared."""
    if _folder is None:
        return [os.getpid()]
    stamps = {_owner(path) for path in _folder.glob("counter_*.db")} - {DEAD}
    return sorted(int(stamp.partition("-")[0]) for stamp in stamps if is_alive(stamp))


def process_key(process: int) -> str:
    """Return a process's id and start time, because ids are reused, and are mostly small in a container. The time is 0
    if the system does not provide it. The key is empty if there is no such process."""
    try:
        # the second field is the program's name in brackets, with any characters in it; the start time is the 22nd
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{process}-0" if psutil.pid_exists(process) else ""
    return f"{process}-{fields[19]}"


def is_alive(key: str) -> bool:
    """Return whether the process of a key is alive."""
    number = key.partition("-")[0]
    return number.isdecimal() and process_key(int(number)) == key


def _values_in(folder: Path, process: str) -> type[_Value]:
    """Return the class of the values that a process writes into its files.

    The class in ``prometheus_client`` takes its folder from an environment variable, which the code of models' archives
    would inherit, and four times as long to count.
    """
    files: dict[str, MmapedDict] = {}
    opening = threading.Lock()

    class Value(_Value):
        def __init__(self, typ: str, metric_name: str, name: str, *key: Any, **more: Any) -> None:
            kind = f"{typ}_{more['multiprocess_mode']}" if typ == "gauge" else typ
            with opening:
                try:
                    if kind not in files:
                        files[kind] = _Numbers(str(folder / f"{kind}_{process}.db"))
                    place = _place(files[kind], mmap_key(metric_name, name, *key))
                except OSError:  # disk full: counted, but not shared
                    place = memoryview(bytearray(8)).cast("d")
                super().__init__(place)

    return Value


class _Numbers(MmapedDict):
    """A file whose disk space is allocated before it is mapped. ``prometheus_client`` maps holes, and a write into a
    hole on a full disk kills the process.

    :raises OSError: if the disk is full.
    """

    def __init__(self, path: str) -> None:
        with open(path, "ab") as file:
            if not file.tell():
                file.write(bytes(FIRST_BYTES))
        super().__init__(path)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        more = self._capacity if self._used + len(key.encode()) + ENTRY_BYTES > self._capacity else 0
        if os.write(self._f.fileno(), bytes(more)) < more:
            self._f.truncate(self._capacity)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._fname)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class _Value:
    """A number in a file that is mapped into memory. Eight aligned bytes are written at once, so a reader sees the old
    number or the new one."""

    _multiprocess = True

    def __init__(self, place: Any) -> None:
        self._place = place
        self._lock = threading.Lock()

    def inc(self, amount: float) -> None:
        with self._lock:
            self._place[0] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._place[0] = value

    def get(self) -> float:
        return float(self._place[0])

    def set_exemplar(self, exemplar: object) -> None:
        """Ignore exemplars, which do not fit into the files."""

    def get_exemplar(self) -> None:
        return None


def _place(file: MmapedDict, key: str) -> Any:
    """Return a view of a number. The file may be remapped when it grows; earlier views refer to the same memory."""
    file.read_value(key)  # creates a missing entry
    start = file._positions[key]
    return memoryview(file._m)[start : start + 8].cast("d")


def _merge_dead(folder: Path) -> None:
    """Merge the files of ended processes into one, and remove them."""
    alive: dict[str, bool] = {DEAD: True}
    gone: dict[str, list[Path]] = {}
    for path in folder.glob("*.db"):
        owner = _owner(path)
        if not alive.setdefault(owner, is_alive(owner)):
            gone.setdefault(path.name.partition("_")[0], []).append(path)
    for kind, paths in sorted(gone.items(), key=lambda item: item[0] in SUMMED):  # gauges are removed in any case
        if kind in SUMMED:
            whole = folder / f"{kind}_{DEAD}.db"
            partial = folder / f".{kind}.partial"
            _add_up([*paths, *([whole] if whole.exists() else [])], partial)
            os.replace(partial, whole)
        for path in paths:
            path.unlink()


def _add_up(paths: Iterable[Path], to: Path) -> None:
    sums: dict[str, float] = {}
    for path in paths:
        if _is_begun(path):
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):
                sums[key] = sums.get(key, 0.0) + value
    with suppress(FileNotFoundError):
        to.unlink()  # left by a process that was killed here
    file = _Numbers(str(to))
    for key, value in sums.items():
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]


def _is_begun(path: Path) -> bool:
    """Return whether the file has content."""
    return path.stat().st_size > 0


def _owner(path: Path) -> str:
    """Return the process key in ``counter_12-345.db``."""
    return path.stem.rpartition("_")[2]


@dataclass(frozen=True)
class Count:
    """The sums of one model: answered requests, failed ones among them (not by the client's fault), active requests,
    and the total seconds of all responses. ``buckets`` maps seconds to the number of responses that took no longer."""

    requests: int = 0
    errors: int = 0
    inside: int = 0
    seconds: float = 0.0
    buckets: Mapping[float, float] = field(default_factory=dict)


def counts() -> dict[str, Count]:
    """Return the sums by model name."""
    sums: dict[str, Count] = {}
    for metric in collect():
        for sample in metric.samples:
            if name := sample.labels.get("model"):
                sums[name] = _plus(sums.get(name, Count()), sample.name, sample.labels, sample.value)
    return sums


def _plus(count: Count, name: str, labels: dict[str, str], value: float) -> Count:
    if name == "dimple_requests_total":
        failed = int(value) if labels["code"].startswith("5") else 0
        return replace(count, requests=count.requests + int(value), errors=count.errors + failed)
    if name == "dimple_requests_in_flight":
        return replace(count, inside=int(value))
    if name == "dimple_request_duration_seconds_sum":
        return replace(count, seconds=count.seconds + value)
    if name == "dimple_request_duration_seconds_bucket":
        edge = float(labels["le"])
        return replace(count, buckets={**count.buckets, edge: count.buckets.get(edge, 0.0) + value})
    return count
