"""``dimple serve``, ``status``, ``stop`` and ``reload``, with a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.settings import ROOT
from tests.helpers import wait_until
from tests.server.servers import PICTURE, SECONDS, Place, place


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("serve")) as here:
        here.environ |= {
            "DIMPLE_HOST": "127.0.0.1",
            "DIMPLE_MANAGEMENT_PORT": str(here.management_port),
            "DIMPLE_MODELS_DIR": str(here.store),
            "DIMPLE_SHIPPED_MODELS": "false",
            "DIMPLE_CORS_ALLOWED_ORIGIN": "https://example.org",
            "DIMPLE_CORS_ALLOWED_METHODS": "GET, POST",
        }
        yield here


@pytest.fixture
def served(here: Place) -> Place:
    """Return the server, started if the test before has stopped it."""
    if not here.pid_files[1].exists():
        done = here.dimple("serve", "--port", str(here.port))
        assert done.returncode == 0, done.stderr
        assert f"is ready at http://localhost:{here.port}, " in done.stdout
    return here


def test_a_reload_replaces_the_workers_and_keeps_the_server(served: Place) -> None:
    server = psutil.Process(int(served.pid_files[1].read_text()))
    before = {process.pid for process in server.children()}
    done = served.invoke("reload")
    assert (done.returncode, done.stdout) == (0, "reloaded\n"), done.stderr
    after = {process.pid for process in server.children()}
    assert len(after) == len(before) and not after & before
    assert served.invoke("status").returncode == 0


def test_a_server_is_started_queried_and_stopped(served: Place) -> None:
    pid = int(served.pid_files[1].read_text())
    assert os.getsid(pid) == pid, "it must not belong to the terminal's session"
    assert psutil.Process(pid).terminal() is None
    status_result = served.invoke("status")
    assert status_result.returncode == 0, status_result.stderr
    assert f"process      {pid}" in status_result.stdout
    assert f"http://localhost:{served.management_port}" in status_result.stdout
    assert "smile" in status_result.stdout

    head = served.curl("-si", f"http://127.0.0.1:{served.port}/readyz")
    assert "Access-Control-Allow-Origin: https://example.org" in head
    assert "Access-Control-Allow-Methods: GET, POST" in head
    assert "Access-Control-Allow-Headers" not in head
    assert "gunicorn" not in head

    again = served.dimple("serve", "--port", str(served.port))
    assert again.returncode == 1
    assert "running already" in again.stderr
    assert "GET /readyz" in (served.instance / "logs" / "access.log").read_text()

    assert served.invoke("stop").stdout == "stopped\n"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert served.invoke("status").returncode == 3
    assert served.invoke("stop").stdout == "not running\n"


def test_a_running_request_is_answered_before_the_server_stops(served: Place) -> None:
    picture = PICTURE.read_bytes()
    log = served.instance / "logs" / "server.log"
    address = ("127.0.0.1", served.port)
    with socket.create_connection(address) as busy, socket.create_connection(address) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in idle.recv(4096)
        head = f"POST /predict/smile HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n\r\n"
        busy.sendall(head.encode() + picture[:1000])
        command = [sys.executable, str(ROOT / "bin" / "dimple"), "stop"]
        stopping = subprocess.Popen(command, env=served.environ, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: "Handling signal: term" in log.read_text() or stopping.poll() is not None, seconds=SECONDS)
        assert stopping.poll() is None, "it stopped, and the request is not answered"
        busy.sendall(picture[1000:])
        assert busy.recv(4096).startswith(b"HTTP/1.1 200 OK")
        # a client that keeps an idle connection open does not hold the server up
        assert stopping.communicate(timeout=SECONDS)[0] == "stopped\n"
        assert stopping.returncode == 0


def test_a_server_that_cannot_start_says_why(here: Place) -> None:
    done = here.dimple("serve", DIMPLE_CERTIFICATE_FILE=str(PICTURE), DIMPLE_PRIVATE_KEY_FILE=str(PICTURE))
    assert done.returncode == 1
    assert f"The certificate {PICTURE}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not here.pid_files[1].exists()


def wait_until_ready(here: Place) -> None:
    """Wait until the server of a place answers."""

    def is_ready() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{here.port}/readyz", timeout=SECONDS).status == 200)
        return False

    wait_until(is_ready, 0.05, SECONDS)


def test_a_server_under_nohup_cannot_be_reloaded_and_says_why(here: Place, tmp_path: Path) -> None:
    command = ["nohup", str(ROOT / ".venv" / "bin" / "gunicorn")]
    ports = {"DIMPLE_PORT": str(here.port), "DIMPLE_MANAGEMENT_PORT": str(here.management_port)}
    with (tmp_path / "output.txt").open("wb") as output:
        server = subprocess.Popen(command, cwd=ROOT, env=here.environ | ports, stdout=output, stderr=output)
    try:
        wait_until_ready(here)
        done = here.invoke("reload")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"process {server.pid}" in done.stderr and "nohup" in done.stderr
    finally:
        server.terminate()
        server.wait(SECONDS)


def test_a_server_that_does_not_run_cannot_be_reloaded(here: Place) -> None:
    done = here.invoke("reload")
    assert done.returncode == 3
    assert "dimple serve" in done.stderr


def test_an_invalid_setting_is_reported_in_one_line(here: Place) -> None:
    done = here.dimple("status", DIMPLE_PROT="9000")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "did you mean DIMPLE_PORT" in done.stderr


def test_a_server_of_make_run_is_found_and_stopped_and_its_port_is_busy(here: Place, tmp_path: Path) -> None:
    output, busy = tmp_path / "output.txt", tmp_path / "busy.txt"
    ports = [f"PORT={here.port}", f"MANAGEMENT_PORT={here.management_port}"]
    with output.open("w") as file, busy.open("w") as again:
        make = subprocess.Popen(["make", "run", *ports], cwd=ROOT, env=here.environ, stdout=file, stderr=file)
        try:
            wait_until_ready(here)
            status_output = here.invoke("status").stdout
            assert f"http://localhost:{here.port}" in status_output
            command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
            environ = here.environ | {"DIMPLE_PORT": str(here.port)}
            assert subprocess.run(command, cwd=ROOT, env=environ, stdout=again, stderr=again, timeout=60).returncode
            *greeting, line = busy.read_text().splitlines()
            assert len(greeting) <= 1  # gunicorn's, with its version
            assert f"Port {here.port} of 127.0.0.1 is in use by process " in line
            assert "gunicorn" in line and f"DIMPLE_PORT={here.port + 10}" in line
            assert here.invoke("status").stdout == status_output  # the second has not taken the pid file
            assert here.invoke("stop").stdout == "stopped\n"
            make.wait(timeout=SECONDS)
            assert here.invoke("status").returncode == 3
        finally:
            if make.poll() is None:
                make.terminate()
                make.wait(timeout=SECONDS)


def test_a_stale_pid_file_does_not_affect_other_processes(here: Place) -> None:
    here.pid_files[1].parent.mkdir(exist_ok=True)
    here.pid_files[1].write_text(str(os.getpid()))  # the number has gone to another process since
    assert here.invoke("status").returncode == 3
    assert here.invoke("stop").stdout == "not running\n"
    assert not here.pid_files[1].exists()


def test_the_foreground_command_is_the_server_process(here: Place, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bin" / "dimple"), "serve", "--foreground"]
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(here.port)], env=here.environ, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: "is ready at" in output.read_text() or process.poll() is not None, seconds=SECONDS)
        assert process.poll() is None, output.read_text()
        assert int(here.pid_files[1].read_text()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
