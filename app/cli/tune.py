"""``flask tune``: the best numbers of server processes and threads for this machine."""

from __future__ import annotations

import datetime
import http.client
import io
import math
import os
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import click
from flask.cli import with_appcontext

from app.cli.common import complete_model, current_settings, report_errors
from app.errors import LaunchError, SettingError
from app.server.daemon import Launch, start, stop
from app.settings import FILE, PREFIX, Settings, to_environment, write_settings
from app.utils.progress import track
from app.utils.system import PROCESS_BYTES, cpu_count, memory_limit

PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class LoadResult:
    """Responses per second, and the median and 99th percentile of the response time in milliseconds."""

    per_second: float
    p50: float
    p99: float


def measure_load(port: int, path: str, body: bytes, connections: int, seconds: float) -> LoadResult:
    """Send a body repeatedly over persistent connections, each waiting for the response before the next request.

    :param port: port on this machine.
    :raises LaunchError: if a response has a status other than 200.
    """
    times: list[float] = []
    problems: list[str] = []
    started = time.perf_counter()

    def ask() -> None:
        try:
            times.extend(_ask(port, path, body, started + seconds))
        except (OSError, http.client.HTTPException, LaunchError) as error:
            problems.append(str(error) or type(error).__name__)

    clients = [threading.Thread(target=ask, daemon=True) for _ in range(connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if problems:
        raise LaunchError(f"The server that was measured did not answer {path}: {problems[0]}")
    took = time.perf_counter() - started
    return LoadResult(len(times) / took, percentile(times, 50) * 1000, percentile(times, 99) * 1000)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the percentile of some values: the smallest that at least ``part`` per cent do not exceed (nearest
    rank)."""
    return sorted(values)[max(0, math.ceil(part / 100 * len(values)) - 1)]


def _ask(port: int, path: str, body: bytes, until: float) -> list[float]:
    """Send requests until a time, at least one. Return the response times in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    times: list[float] = []
    try:
        while not times or time.perf_counter() < until:
            started = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise LaunchError(f"{response.status} {content[:200].decode(errors='replace')}")
            times.append(time.perf_counter() - started)
    finally:
        connection.close()
    return times


CROWD = 8
NOISE = 0.05
"""Relative gain that a combination needs over an earlier one; smaller differences are noise."""
NAMES = ("workers", "threads")


@dataclass(frozen=True)
class Result:
    """Results of a combination of settings with one client, and with a crowd of clients."""

    workers: int
    threads: int
    lone: LoadResult
    crowd: LoadResult

    @property
    def score(self) -> float:
        """Return the geometric mean of the responses per second: twice as many for one client balance half as many for
        the crowd."""
        return math.sqrt(self.lone.per_second * self.crowd.per_second)


@click.command("tune")
@click.argument("name", shell_complete=complete_model)
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds for each measurement."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    multiple=True,
    help="Number of workers to try. Repeatable.  [default: a few that fit the machine]",
)
@with_appcontext
@report_errors
def tune(name: str, seconds: float, workers: tuple[int, ...]) -> None:
    """Find the best number of workers and threads.

    Servers with different numbers of workers and threads are started on free ports, one after the other, and measured
    with the model NAME, over one connection and over eight. Keep the machine otherwise idle. The best combination is
    written to instance/settings.env, with the measurements; the server uses it after its next start.
    """
    from app.cli.predict import find_model

    settings = current_settings()
    find_model(settings, name)  # raises an error that lists the models if there is none of that name
    processes = workers or server_processes(cpu_count(), memory_limit() // PROCESS_BYTES)
    tried = [(count, threads) for count in processes for threads in (0, 8 * cpu_count())]
    body = picture()
    results = [_measure(settings, name, each, body, seconds) for each in track(tried, "tried", len(tried), "servers")]
    chosen = best(results)
    lines = table(results, chosen)
    click.echo("\n".join(lines))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    file = settings.instance_dir / FILE
    values = {"workers": chosen.workers, "threads": chosen.threads}
    try:
        write_settings(values, file, [f"{today}, model {name}; answers a second, and milliseconds", *lines])
    except OSError as error:
        raise SettingError("DIMPLE_INSTANCE_DIR", settings.instance_dir, f"a folder to write to ({error})") from None
    click.echo(f"\nDIMPLE_WORKERS={chosen.workers} and DIMPLE_THREADS={chosen.threads} are set in {file}")
    for variable in (PREFIX + item.upper() for item in NAMES):
        if variable in os.environ:
            click.echo(f"{variable}={os.environ[variable]} of the environment goes before it; unset that")


def server_processes(cores: int, fitting: int) -> list[int]:
    """Return the numbers of server processes to try, the default first.

    :param fitting: maximum number of processes that fit in memory.
    """
    most = max(1, fitting)
    return list(
        dict.fromkeys([min(cores, most), *(count for count in (1, cores // 2, 2 * cores) if 0 < count <= most)])
    )


def best(results: Sequence[Result]) -> Result:
    """Return the first result whose score equals the best score within the noise."""
    most = max(result.score for result in results)
    return next(result for result in results if result.score >= most * (1 - NOISE))


def table(results: Sequence[Result], chosen: Result) -> list[str]:
    """Return the measurements, one line for each combination; the chosen one has an asterisk."""
    lines = ["  processes  threads    1: /s      p50    8: /s      p50      p99"]
    for result in results:
        mark = "*" if result is chosen else " "
        figures = (result.lone.per_second, result.lone.p50, result.crowd.per_second, result.crowd.p50, result.crowd.p99)
        text = " ".join(f"{figure:8.1f}" for figure in figures)
        lines.append(f"{mark} {result.workers:9}  {result.threads or 'enough':>7} {text}")
    return lines


def picture() -> bytes:
    """Return a JPEG of 640 x 480 pixels with about the detail of a photograph."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:480, 0:640]
    waves = [np.sin(x / 40 + shift) + np.cos(y / 30 - shift) for shift in (0, 1, 2)]
    noise = np.random.default_rng(0).normal(0, 8, (480, 640, 3))
    pixels = np.clip(np.stack(waves, 2) * 50 + 128 + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _measure(settings: Settings, name: str, tried: tuple[int, int], body: bytes, seconds: float) -> Result:
    """Start a server for one model, with its own folder and ports, measure it, and stop it."""
    path = f"/predict/{name}"
    with ExitStack() as stack:
        settings.instance_dir.mkdir(parents=True, exist_ok=True)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuning-", dir=settings.instance_dir)))
        port, environ = _environment(settings, name, tried, work)
        launch = Launch(environ, work / "server.pid", work / "output.log")
        stack.callback(stop, launch.pid_file)
        start(launch)
        measure_load(port, path, body, CROWD, seconds / 4)  # warm-up: every process responds before the measurement
        return Result(
            *tried, measure_load(port, path, body, 1, seconds), measure_load(port, path, body, CROWD, seconds)
        )


def _environment(settings: Settings, name: str, tried: tuple[int, int], work: Path) -> tuple[int, dict[str, str]]:
    """Return a free port and the environment of a server on it, which keeps all settings that affect speed."""
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
    values = {field.name: getattr(settings, field.name) for field in fields(Settings)} | {
        "workers": tried[0],
        "threads": tried[1],
        "host": "127.0.0.1",
        "port": ports[0],
        "management_host": "127.0.0.1",
        "management_port": ports[1],
        "instance_dir": work,
        "cache_dir": settings.cache,
        "load_models": name,
        "shipped_models": False,
        "certificate_file": None,
        "private_key_file": None,
        "access_log": "",
        "log_file": None,
        "server_metrics_log": None,
        "model_metrics_log": None,
        "uploads_max_age": 0,
    }
    return ports[0], {**os.environ, **to_environment(values)}
