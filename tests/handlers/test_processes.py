"""The handler processes: isolated from the server and from each other, killed and restarted, ended with the server."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import BadParameter, HandlerLoadError, SettingError
from app.handlers.environment import SERVERS_THREADS, handler_environment
from app.handlers.pool import Workers
from app.settings import ROOT
from tests.handlers.archives import DEADLINE, archive, request, wait_for_end
from tests.handlers.conftest import Run
from tests.helpers import wait_until

SURROUNDINGS = """
    import json, os, sys

    def handle(data, context):
        if data is None:
            return None
        try:
            import app
            found = app.__file__
        except ModuleNotFoundError:
            found = None
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return [{
            "environ": dict(os.environ), "path": sys.path, "app": found, "modules": sorted(sys.modules),
            "files": [os.readlink(link) for link in links if os.path.islink(link)],
        }] * len(data)
"""

OBEDIENT = """
    import os, signal, subprocess, sys, time

    def handle(data, context):
        if data is None:
            return None
        order = bytes(data[0]["body"]).decode()
        if order == "hang":
            sleeper = subprocess.Popen(["sleep", "1000"])
            with open("sleeper", "w") as file:
                file.write(str(sleeper.pid))
            while True:
                pass
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "exit":
            sys.exit(4)
        if order == "much":
            return ["x" * 5_000] * len(data)
        if order.startswith("meet"):  # a pipe is opened by both its ends, or by none
            with open(order.split()[1], order.split()[2]):
                return ["met"]
        return [str(os.getpid())] * len(data)
"""

DIED = (500, ("InternalServerException", "Worker died."))
NO_WORKER = "No worker is available to serve request for model: model. Consider increasing job queue size."


def test_a_handler_has_no_access_to_our_settings_files_and_code(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"DIMPLE_PORT": "80", "AWS_SECRET": "s", "AWS": "kept", "TOKEN": "t", "OMP_NUM_THREADS": "3"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), "/elsewhere"]))
    folder = archive(tmp_path / "model", {"service.py": SURROUNDINGS})
    ours = os.open(tmp_path / "ours", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(ours, True)
    try:
        seen = json.loads(
            run(folder, passed_variables="DIMPLE_*, AWS*", hidden_variables="AWS_.*|X").predict([request()])[0].body
        )
    finally:
        os.close(ours)
    assert {"DIMPLE_PORT", "AWS_SECRET", "TOKEN"}.isdisjoint(seen["environ"])
    assert (seen["environ"]["AWS"], seen["environ"]["OMP_NUM_THREADS"]) == ("kept", "3")
    assert seen["app"] is None
    assert not [name for name in seen["modules"] if name.split(".")[0] in ("app", "numpy", "mxnet", "flask")]
    assert str(tmp_path / "ours") not in seen["files"]
    # as in Multi Model Server
    assert seen["path"][:4] == [str(folder / "service"), "/elsewhere", str(folder), str(ROOT / "app/handlers/runtime")]


def test_one_thread_computes_unless_the_environment_says_otherwise() -> None:
    assert handler_environment("", {})["OMP_NUM_THREADS"] == "1"
    assert handler_environment("", {"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"
    servers = {"OMP_NUM_THREADS": "2", SERVERS_THREADS: "2"}
    assert handler_environment("", servers)["OMP_NUM_THREADS"] == "1"
    assert "PYTHONPATH" not in handler_environment("", {})


def test_an_invalid_pattern_for_hidden_variables_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match=r"blacklist_env_vars='\['"):
        handler_environment("[", {})


def test_an_archive_s_own_app_package_is_found_and_its_folder_stays_clean(tmp_path: Path, run: Run) -> None:
    files = {"service.py": SURROUNDINGS, "app/__init__.py": "name = 'the archive'\n"}
    folder = archive(tmp_path, files)
    assert json.loads(run(folder).predict([request()])[0].body)["app"] == str(folder / "app/__init__.py")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == sorted(files)


def test_archives_with_modules_of_the_same_name_are_isolated(tmp_path: Path, run: Run) -> None:
    code = """
        from mxnet_utils import image

        def handle(data, context):
            return [image.NAME] * len(data or ())
    """
    both = [
        run(archive(tmp_path / name, {"model_handler.py": code, "mxnet_utils/image.py": f"NAME = '{name}'\n"}), handler)
        for name, handler in (("cats", "model_handler:handle"), ("dogs", "model_handler.py:handle"))
    ]
    assert [workers.predict([request()])[0].body for workers in both] == [b"cats", b"dogs"]


def test_output_of_a_handler_is_logged_and_cannot_corrupt_a_response(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    code = r"""
        import logging, os, sys

        def handle(data, context):
            if data is not None:
                print("printed", flush=True)
                os.write(1, b"\x00\x00\x00\x05\xff raw\n")
                logging.info("LoggingService inference [PID]: %d", os.getpid())
                print("complaint", file=sys.stderr)
                os.write(1, b"y" * 70_000)
            return ["answer"] * len(data or ())
    """
    caplog.set_level(logging.INFO, "app.handlers")
    workers = run(archive(tmp_path, {"service.py": code}))
    pid = workers.statuses()[0].pid
    assert workers.predict([request()])[0].body == b"answer"
    assert workers.close(DEADLINE)
    lines = [
        (record.levelname, record.threadName, record.message)
        for record in caplog.records
        if record.name == "app.handlers.log_relay"
    ]
    out, err = "W-9000-model-stdout", "W-9000-model-stderr"
    assert ("INFO", out, "printed") in lines
    assert ("INFO", out, "\0\0\0\x05\ufffd raw") in lines
    assert ("INFO", out, f"LoggingService inference [PID]: {pid}") in lines
    assert ("WARNING", err, "complaint") in lines
    assert sum(len(text) for _, _, text in lines if set(text) == {"y"}) == 70_000


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("die", "The worker was killed by signal 9"),
        ("exit", "The worker ended by itself with exit code 4"),
        ("hang", "The worker did not answer within 0.5 s and was killed"),
        ("much", "The worker sent an invalid message: ValueError('10,000 bytes; at most 5,000 are allowed')"),
    ],
)
def test_a_worker_that_dies_fails_its_batch_and_is_restarted(tmp_path: Path, run: Run, order: str, reason: str) -> None:
    folder = archive(tmp_path, {"service.py": OBEDIENT})
    workers = run(folder, response_timeout=0.5 if order == "hang" else DEADLINE, max_response_bytes=5000)
    before = int(workers.predict([request(b"pid")])[0].body)
    answers = workers.predict([request(order.encode()), request()])
    assert [(answer.status, answer.error) for answer in answers] == [DIED, DIED]
    after = int(workers.predict([request(b"pid")])[0].body)
    assert after != before
    (status,) = workers.statuses()
    assert (status.pid, status.state, status.restarts) == (after, "READY", 1)
    assert status.last_error.startswith(reason)
    with pytest.raises(ChildProcessError):  # it was reaped
        os.waitpid(before, os.WNOHANG)
    if order == "hang":
        assert wait_for_end(int((folder / "sleeper").read_text()))


def test_a_killed_idle_worker_is_restarted(tmp_path: Path, run: Run) -> None:
    started: list[float] = []
    restarted = threading.Event()

    def pause(leaving: threading.Event, seconds: float) -> None:
        started.append(seconds)
        restarted.set()

    workers = run(archive(tmp_path, {"service.py": OBEDIENT}), pause=pause)
    (status,) = workers.statuses()
    assert status.pid is not None
    assert status.started is not None
    assert status.memory_bytes > 2**20
    os.kill(status.pid, signal.SIGKILL)
    assert restarted.wait(DEADLINE)
    assert int(workers.predict([request()])[0].body) != status.pid
    assert started == [1]


def wait_until_ready(workers: Workers) -> None:
    wait_until(lambda: workers.statuses()[0].state == "READY", seconds=DEADLINE)


def test_the_pause_grows_while_loading_fails_and_is_reset_by_a_success(tmp_path: Path, run: Run) -> None:
    code = """
        import os

        with open("tries", "a+") as file:
            file.write("x")
            file.seek(0)
            tries = len(file.read())

        def handle(data, context):
            if data is None and tries in (1, 2, 3, 4, 6):
                raise ValueError(f"try {tries}")
            if data is not None and tries == 5:
                os.abort()
            return ["alive"] * len(data or ())
    """
    pauses: list[float] = []
    workers = run(archive(tmp_path, {"service.py": code}), count=0, pause=lambda _, seconds: pauses.append(seconds))
    with pytest.raises(HandlerLoadError, match=r"try [1-4]"):
        workers.start(1, DEADLINE)
    wait_until_ready(workers)
    assert pauses == [1, 1, 2, 3]
    assert workers.predict([request()])[0].error == DIED[1]
    wait_until_ready(workers)
    assert pauses == [1, 1, 2, 3, 1, 1]
    assert workers.predict([request()])[0].body == b"alive"


def test_two_workers_answer_at_the_same_time(tmp_path: Path, run: Run) -> None:
    os.mkfifo(tmp_path / "pipe")
    workers = run(archive(tmp_path, {"service.py": OBEDIENT}), count=2)
    with ThreadPoolExecutor(2) as pool:
        orders = [[request(b"meet pipe rb")], [request(b"meet pipe wb")]]
        assert [answer.body for (answer,) in pool.map(workers.predict, orders, timeout=DEADLINE)] == [b"met", b"met"]
    ids = [status.id for status in workers.statuses()]
    assert len(set(ids)) == 2
    assert all(item.startswith("9000-") and len(item) == 13 for item in ids)


def test_more_batches_than_workers_wait_their_turn(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": OBEDIENT}), count=2)
    with ThreadPoolExecutor(8) as pool:
        bodies = [answer.body for (answer,) in pool.map(workers.predict, [[request()]] * 200, timeout=DEADLINE)]
    pids = {str(status.pid).encode() for status in workers.statuses()}
    assert len(bodies) == 200
    assert set(bodies) <= pids


def test_workers_scale_to_zero_and_back(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": OBEDIENT}), count=2)
    workers.scale(1, 5)
    assert len(workers.statuses()) == 2  # between least and most nothing changes
    pids = [status.pid or 0 for status in workers.statuses()]
    workers.scale(0, 0)
    (answer,) = workers.predict([request()])
    assert (answer.status, answer.error) == (503, ("ServiceUnavailableException", NO_WORKER))
    assert all(wait_for_end(pid) for pid in pids)
    workers.scale(1, 1, DEADLINE)
    assert int(workers.predict([request()])[0].body) not in pids


def test_a_minimum_above_the_maximum_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(BadParameter, match="min_worker"):
        run(tmp_path, count=0).scale(10, 9)


def test_a_worker_that_is_removed_finishes_its_batch(tmp_path: Path, run: Run) -> None:
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "go on")
    code = """
        def handle(data, context):
            if data is not None:
                open("begun", "wb").close()
                open("go on", "rb").close()
            return ["finished"] * len(data or ())
    """
    workers = run(archive(tmp_path, {"service.py": code}))
    with ThreadPoolExecutor() as pool:
        answers = pool.submit(workers.predict, [request()])
        (tmp_path / "begun").read_bytes()
        workers.scale(0, 0)
        assert [status.state for status in workers.statuses()] == ["UNLOADING"]
        (tmp_path / "go on").write_bytes(b"")
        assert answers.result(DEADLINE)[0].body == b"finished"
    assert workers.close(DEADLINE)
    assert workers.statuses() == []


def test_closing_without_a_timeout_kills_workers_and_reports_it(tmp_path: Path, run: Run) -> None:
    os.mkfifo(tmp_path / "begun")
    code = """
        def handle(data, context):
            if data is not None:
                open("begun", "wb").close()
                while True:
                    pass
    """
    workers = run(archive(tmp_path, {"service.py": code}))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(workers.predict, [request()])
        (tmp_path / "begun").read_bytes()
        waiting = pool.submit(workers.predict, [request()])
        assert not workers.close(0)
        assert running.result(DEADLINE)[0].error == DIED[1]
        assert waiting.result(DEADLINE)[0].status == 503
    assert workers.statuses() == []


def test_no_process_outlives_a_killed_server(tmp_path: Path) -> None:
    code = """
        def handle(data, context):
            while data is not None:
                pass
    """
    folder = archive(tmp_path, {"service.py": code})
    server = f"""
import threading
import time
from pathlib import Path
from app.handlers.types import HandlerRequest, HandlerSpec
from app.handlers.pool import Workers

workers = Workers(HandlerSpec("model", Path({str(folder)!r}), "service:handle"))
workers.start(2, {DEADLINE})
threading.Thread(target=workers.predict, args=([HandlerRequest("r0", ())],)).start()
print(*(status.pid for status in workers.statuses()), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", server], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 2
    assert all(wait_for_end(pid) for pid in pids)
