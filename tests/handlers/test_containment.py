"""The limits of a handler, each exceeded by a real process, and the consequences."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.errors import HandlerLoadError
from app.handlers.environment import handler_environment
from app.handlers.log_relay import TokenBucket
from app.handlers.pool import Workers
from app.handlers.reaper import Reaper
from app.handlers.types import HandlerLimits
from app.settings import ROOT
from tests.handlers.archives import DEADLINE, archive, request, wait_for_end
from tests.handlers.conftest import Run
from tests.helpers import wait_until

GREEDY = """
    import json, os, resource, subprocess, sys, time

    kept = []

    def take(what, amount):
        if what == "memory":
            kept.append(bytearray(amount))
        if what == "processor":
            until = time.process_time() + amount
            while time.process_time() < until:
                pass
        if what == "files":
            kept.extend(open("/dev/null") for _ in range(amount))
        if what == "file":
            with open("written", "wb") as file:
                file.write(bytes(amount))
        if what == "output":
            line = "x" * 999 + "\\n"
            for _ in range(amount):
                sys.stdout.write(line)
            sys.stdout.flush()
        if what == "processes":
            kept.extend(subprocess.Popen(["sleep", "1000"]) for _ in range(amount))
            return [process.pid for process in kept]
        if what == "exit":
            os._exit(3)

    def handle(data, context):
        if data is None:
            return None
        try:
            answer = take(*json.loads(bytes(data[0]["body"])))
        except OSError as error:
            answer = error.errno
        return [{"pid": os.getpid(), "answer": answer}] * len(data)
"""
TELLS = """
    import json, os, resource

    def handle(data, context):
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
        links = {number: f"/proc/self/fd/{number}" for number in sorted(map(int, os.listdir("/proc/self/fd")))}
        open("private", "w").close()
        return [{
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "nice": os.nice(0),
            "privileges": status["NoNewPrivs"].strip(),
            "oom": int(open("/proc/self/oom_score_adj").read()),
            "mode": os.stat("private").st_mode & 0o777,
            "open": {number: os.readlink(link) for number, link in links.items() if os.path.lexists(link)},
            "group": os.getpgid(0), "session": os.getsid(0), "pid": os.getpid(),
            "environ": dict(os.environ),
            "gpu": context.system_properties["gpu_id"],
        }] * len(data or ())
"""
GIGABYTE = 2**30


def ask(workers: Workers, *order: object) -> dict[str, Any]:
    (answer,) = workers.predict([request(json.dumps(order).encode())])
    assert answer.status == 200, answer
    return dict(json.loads(answer.body))


def error(workers: Workers, *order: object) -> tuple[int, str]:
    (answer,) = workers.predict([request(json.dumps(order).encode())])
    assert answer.error is not None
    return answer.status, answer.error[1]


@pytest.fixture
def greedy(tmp_path: Path) -> Path:
    return archive(tmp_path / "greedy", {"service.py": GREEDY})


def test_memory_beyond_the_limit_is_507_and_the_worker_is_restarted(greedy: Path, run: Run) -> None:
    workers = run(greedy, count=2, limits=HandlerLimits(memory_bytes=GIGABYTE // 2))
    before = {status.pid for status in workers.statuses()}
    held = ask(workers, "memory", 1000)["pid"]
    assert error(workers, "memory", GIGABYTE) == (507, "Out of resources")
    wait_until(lambda: sum(status.restarts for status in workers.statuses()) == 1, seconds=DEADLINE)
    wait_until(lambda: all(status.state == "READY" for status in workers.statuses()), seconds=DEADLINE)
    (replaced,) = [status for status in workers.statuses() if status.restarts]
    assert replaced.last_error == "The worker ran out of its 536,870,912 bytes of memory"
    assert len(before & {status.pid for status in workers.statuses()}) == 1  # the other one worked on
    assert held in before


def test_memory_can_be_allocated_up_to_the_limit_and_not_beyond(greedy: Path, run: Run) -> None:
    workers = run(greedy, limits=HandlerLimits(memory_bytes=GIGABYTE // 4))
    taken = 0
    while workers.predict([request(json.dumps(["memory", GIGABYTE // 32]).encode())])[0].status == 200:
        taken += 1
    assert 4 <= taken <= 7  # of 8 that would fill it, without what Python takes itself


def test_a_batch_that_runs_out_of_memory_does_not_end_a_worker_without_a_limit(greedy: Path, run: Run) -> None:
    workers = run(greedy)
    (before,) = workers.statuses()
    assert error(workers, "memory", 2**62) == (507, "Out of resources")
    assert ask(workers, "nothing", 0)["pid"] == before.pid


def test_a_model_larger_than_the_memory_limit_is_refused_with_507(tmp_path: Path, run: Run) -> None:
    folder = archive(tmp_path, {"service.py": "weights = bytearray(2**29)\ndef handle(data, context): pass\n"})
    with pytest.raises(HandlerLoadError, match="MemoryError") as caught:
        run(folder, limits=HandlerLimits(memory_bytes=2**28))
    assert caught.value.mms_status == 507


def test_the_time_limit_applies_to_each_batch_separately(greedy: Path, run: Run) -> None:
    workers = run(greedy, limits=HandlerLimits(cpu_seconds=1))
    pids = {ask(workers, "processor", 0.6)["pid"] for _ in range(3)}
    assert len(pids) == 1  # 1.8 seconds, but of three batches
    assert error(workers, "processor", 1000) == (500, "Worker died.")
    assert ask(workers, "processor", 0.1)["pid"] not in pids
    assert f"killed by signal {int(signal.SIGXCPU)}" in workers.statuses()[0].last_error


def test_files_beyond_the_limit_cannot_be_opened(greedy: Path, run: Run) -> None:
    workers = run(greedy, limits=HandlerLimits(open_files=40))
    assert ask(workers, "files", 20)["answer"] is None
    assert ask(workers, "files", 20)["answer"] == errno.EMFILE


def test_a_file_cannot_grow_beyond_the_limit(greedy: Path, run: Run) -> None:
    workers = run(greedy, limits=HandlerLimits(file_bytes=100_000))
    assert ask(workers, "file", 100_000)["answer"] is None
    assert ask(workers, "file", 100_001)["answer"] == errno.EFBIG
    assert (greedy / "written").stat().st_size == 100_000


def test_a_limit_above_that_of_the_server_is_lowered_to_it(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": TELLS}), limits=HandlerLimits(open_files=2**40))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert ask(workers)["files"] == [hard, hard]


def test_a_handler_leaves_no_core_dump_has_a_private_umask_and_no_new_privileges(tmp_path: Path, run: Run) -> None:
    facts = ask(run(archive(tmp_path, {"service.py": TELLS}), limits=HandlerLimits(nice=3)))
    assert facts["core"] == [0, 0]
    assert facts["mode"] == 0o600
    assert facts["privileges"] == "1"
    assert facts["nice"] == os.nice(0) + 3
    assert facts["oom"] == min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 500)
    assert facts["group"] == facts["session"] == facts["pid"]


def test_a_handler_inherits_only_its_pipes_and_no_files_of_the_server(tmp_path: Path, run: Run) -> None:
    folder = archive(tmp_path, {"service.py": TELLS})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)  # as gunicorn's are
        theirs = f"socket:[{os.fstat(listener.fileno()).st_ino}]"
        opened = list(ask(run(folder))["open"].values())
    assert opened[0] == "/dev/null"
    assert [target.partition(":")[0] for target in opened[1:]] == ["pipe", "pipe", "socket"]
    assert opened[3] != theirs


def test_the_environment_of_a_handler_has_only_variables_that_libraries_need() -> None:
    server = {
        **{"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2"},
        **{"TORCH_HOME": "/models/torch", "PYTORCH_CUDA_ALLOC_CONF": "backend:native"},
        **{"AWS_REGION": "r", "AWS_SECRET_ACCESS_KEY": "k", "HF_TOKEN": "t", "GUNICORN_CMD_ARGS": "-b :80"},
        **{"DIMPLE_PORT": "80", "HOME": "/root", "SSH_AUTH_SOCK": "/tmp/s", "https_proxy": "http://me:word@proxy"},
    }
    usual = set(handler_environment("", {}))
    names = {"PATH", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TORCH_HOME", "PYTORCH_CUDA_ALLOC_CONF"}
    assert set(handler_environment("", server)) == usual | names
    assert set(handler_environment("", server, extra_patterns="AWS_*, HF_TOKEN")) == usual | names | {
        *("AWS_REGION", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"),
    }
    assert set(handler_environment(".*SECRET.*", server, extra_patterns="AWS_*")) == usual | names | {"AWS_REGION"}
    assert set(server) - set(handler_environment("", server, extra_patterns="*")) == {"DIMPLE_PORT"}
    assert "DIMPLE_PORT" not in handler_environment("", server, extra_patterns="DIMPLE_PORT,DIMPLE_*")


def test_the_home_of_a_handler_is_not_that_of_the_server(tmp_path: Path, run: Run) -> None:
    (tmp_path / "home").mkdir()
    folder = archive(tmp_path / "model", {"service.py": TELLS})
    facts = ask(run(folder, home=tmp_path / "home", passed_variables="HOME"))
    assert facts["environ"]["HOME"] == str(tmp_path / "home")


def test_workers_get_gpus_in_turn_and_keep_them(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": TELLS}), count=4, number_of_gpu=2)
    statuses = workers.statuses()
    assert sorted(status.gpu_id for status in statuses if status.gpu_id is not None) == [0, 0, 1, 1]
    workers.scale(1, 1)
    wait_until(lambda: len(workers.statuses()) == 1, seconds=DEADLINE)
    (before,) = workers.statuses()
    assert ask(workers)["gpu"] == before.gpu_id
    os.kill(before.pid or 0, signal.SIGKILL)
    wait_until(lambda: workers.statuses()[0].restarts == 1, seconds=DEADLINE)
    assert ask(workers)["gpu"] == before.gpu_id
    assert workers.statuses()[0].pid != before.pid


def test_a_handler_without_gpus_gets_no_gpu_id(tmp_path: Path, run: Run) -> None:
    assert ask(run(archive(tmp_path, {"service.py": TELLS})))["gpu"] is None


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize("times", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_many_crashes_leave_no_zombie_process(greedy: Path, run: Run, times: int) -> None:
    workers = run(greedy, count=4)
    before = len(children())
    with ThreadPoolExecutor(4) as pool:
        crashes = list(pool.map(lambda _: error(workers, "exit", 0), range(times), timeout=4 * DEADLINE))
    assert crashes == [(500, "Worker died.")] * times
    wait_until(lambda: all(status.state == "READY" for status in workers.statuses()), seconds=DEADLINE)
    wait_until(lambda: len(children()) == before, seconds=DEADLINE)
    assert sum(status.restarts for status in workers.statuses()) == times


def test_processes_started_by_a_handler_end_with_it(greedy: Path, run: Run) -> None:
    workers = run(greedy)
    sleepers = ask(workers, "processes", 3)["answer"]
    assert error(workers, "exit", 0) == (500, "Worker died.")
    assert all(wait_for_end(pid) for pid in sleepers)


def server_that_runs(folder: Path) -> subprocess.Popen[str]:
    code = f"""
import time
from pathlib import Path
from app.handlers.types import HandlerRequest, HandlerSpec, Field
from app.handlers.pool import Workers

workers = Workers(HandlerSpec("model", Path({str(folder)!r}), "service:handle"))
workers.start(1, {DEADLINE})
field = Field("body", "application/octet-stream", b'["processes", 2]', True)
print(workers.predict([HandlerRequest("r0", (field,))])[0].body.decode().replace("\\n", ""), flush=True)
time.sleep(1000)
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_started_by_a_handler_end_with_a_killed_server(greedy: Path) -> None:
    with server_that_runs(greedy) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        process.kill()
    assert len(facts["answer"]) == 2
    assert all(wait_for_end(pid) for pid in (facts["pid"], *facts["answer"]))


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True)


def test_the_reaper_kills_only_the_process_groups_that_it_watches() -> None:
    guard = Reaper()
    with sleeper() as watched, sleeper() as forgotten:
        for process in (watched, forgotten):
            guard.watch(process.pid)
        guard.forget(forgotten.pid)
        guard.end()
        assert watched.wait(DEADLINE) == -signal.SIGKILL
        assert forgotten.poll() is None
        forgotten.kill()


def test_a_killed_reaper_is_replaced_and_still_watches_all_process_groups() -> None:
    guard = Reaper()
    with sleeper() as first, sleeper() as second:
        before = set(psutil.Process().children())
        guard.watch(first.pid)
        (process,) = set(psutil.Process().children()) - before
        process.kill()
        process.wait(DEADLINE)
        guard.watch(second.pid)
        guard.end()
        assert [first.wait(DEADLINE), second.wait(DEADLINE)] == [-signal.SIGKILL] * 2


def test_endless_output_of_a_handler_is_limited_and_its_requests_are_answered(
    greedy: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.handlers")
    workers = run(greedy)
    assert ask(workers, "output", 20_000)["answer"] is None  # 20 MB
    assert workers.close(DEADLINE)
    lines = [record.message for record in caplog.records if record.message == "x" * 999]
    lost = [re.match(r"(\d+) lines \((\d+) bytes\)", record.message) for record in caplog.records]
    missing = sum(int(found[1]) for found in lost if found)
    assert len(lines) + missing == 20_000
    assert sum(int(found[2]) for found in lost if found) == 1000 * missing
    assert 3000 < len(lines) < 8000  # 4 MiB at once, and a little more in the seconds that it takes


def test_an_exhausted_output_allowance_refuses_until_it_is_refilled(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("app.handlers.log_relay.time.monotonic", lambda: now[0])
    allowance = TokenBucket(10, 100)
    assert allowance.take(100)
    now[0] = 0.25
    assert not allowance.take(3)  # there are 2.5
    now[0] = 0.75
    assert not allowance.take(3)  # there are 7.5
    now[0] = 1.0
    assert allowance.take(3)
    assert allowance.take(7)
    now[0] = 100.0
    assert not allowance.take(101)  # never more than at once


def test_output_of_one_handler_does_not_delay_another(tmp_path: Path, run: Run) -> None:
    loud = run(archive(tmp_path / "loud", {"service.py": GREEDY}), model_name="loud")
    quiet = run(archive(tmp_path / "quiet", {"service.py": GREEDY}), model_name="quiet")
    printing = threading.Thread(target=loud.predict, args=([request(b'["output", 1000000]')],), daemon=True)
    printing.start()
    assert {ask(quiet, "nothing", 0)["answer"] for _ in range(50)} == {None}
    assert printing.is_alive()  # a gigabyte takes it a minute
    loud.close(0)
