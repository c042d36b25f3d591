"""Tutorials of Multi Model Server, followed with its commands against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.settings import ROOT
from tests.server.servers import PICTURE, SECONDS, Place, place

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
RUNNING = "Model server is already running, please use multi-model-server --stop to stop MMS.\n"

SERVICE = """
def handle(data, context):
    if data is None:
        print("a handler's words", flush=True)
        return None
    context.metrics.add_size("Read", len(data[0]["body"]), None, "B")
    return [{"bytes": len(row["body"])} for row in data]
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as here:
        yield here


def test_start_and_stop_with_a_configuration_file(here: Place) -> None:
    here.configure("model_store=store", "load_models=ALL", "metric_time_interval=1", "io_ratio=40", "colour=blue")
    started = here.run("multi-model-server", "--start")
    assert (started.returncode, started.stdout) == (0, "Model server started.\n"), started.stderr
    assert "colour" in started.stderr
    assert "io_ratio" not in started.stderr
    again = here.run("multi-model-server", "--start")
    assert (again.returncode, again.stderr) == (1, RUNNING)

    answer = json.loads(here.curl("-T", str(PICTURE), f"http://127.0.0.1:{here.port}/predictions/smile?x=1"))
    assert [item["class"] for item in answer] == ["smiling", "non-smiling"]
    listed = json.loads(here.curl(f"http://127.0.0.1:{here.management_port}/models"))["models"]
    assert "smile" in [model["modelName"] for model in listed]
    here.curl(f"http://127.0.0.1:{here.port}/nowhere")

    stopped = here.run("multi-model-server", "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Model server stopped.\n")
    assert not here.pid_files[0].exists()
    assert here.run("multi-model-server", "--stop").stdout == "Model server is not currently running.\n"
    check_logs(here.folder / "logs")


def check_logs(logs: Path) -> None:
    """Check the five files of Multi Model Server, and its lines in them."""
    expected = {"access_log.log", "mms_log.log", "model_log.log", "mms_metrics.log", "model_metrics.log"}
    assert {path.name for path in logs.iterdir()} == expected
    access = (logs / "access_log.log").read_text().splitlines()
    peer = r"/127\.0\.0\.1:\d+"
    assert re.fullmatch(rf'{TIME} - {peer} "PUT /predictions/smile\?x=1 HTTP/1\.1" 200 \d+', access[0])
    assert re.fullmatch(rf'{TIME} - {peer} "GET /nowhere HTTP/1\.1" 404 \d+', access[2])
    for line in (logs / "mms_log.log").read_text().splitlines():
        assert re.match(rf"{TIME} \[(DEBUG|INFO |WARN |ERROR)\] \S+ \S+ - ", line), line
    metrics = (logs / "mms_metrics.log").read_text().splitlines()
    tail = r"\|#Level:Host\|#hostname:[^,|]+,timestamp"
    assert sum(bool(re.fullmatch(rf"{TIME} - Requests2XX\.Count:1{tail}:null", line)) for line in metrics) == 2
    assert sum(bool(re.fullmatch(rf"{TIME} - Requests4XX\.Count:1{tail}:null", line)) for line in metrics) == 1
    units = {
        "CPUUtilization": "Percent",
        "MemoryUsed": "Megabytes",
        "MemoryAvailable": "Megabytes",
        "MemoryUtilization": "Percent",
        "DiskUsage": "Gigabytes",
        "DiskAvailable": "Gigabytes",
        "DiskUtilization": "Percent",
    }
    for name, unit in units.items():
        found = [line for line in metrics if re.fullmatch(rf"{TIME} - {name}\.{unit}:[\d.]+{tail}:\d{{10}}", line)]
        assert found, name


def test_an_archive_of_the_store_is_loaded_and_its_metrics_are_logged(here: Place) -> None:
    source = here.folder / "source"
    source.mkdir()
    (source / "service.py").write_text(SERVICE)
    packing = [
        "--model-name",
        "sized",
        "--model-path",
        "source",
        "--handler",
        "service:handle",
        "--export-path",
        "store",
    ]
    assert here.run("model-archiver", *packing, "--handler", "service:handle").returncode == 0
    here.configure()
    started = here.run("mxnet-model-server", "--start", "--model-store", "store", "--models", "sized.mar")
    assert started.stdout == "Model server started.\n", started.stderr
    listed = json.loads(here.curl(f"http://127.0.0.1:{here.management_port}/models"))["models"]
    assert [model["modelName"] for model in listed] == ["sized"]
    url = f"http://127.0.0.1:{here.port}/predictions/sized"
    assert json.loads(here.curl("--data-binary", "1234", "-H", "Content-Type: image/jpeg", url)) == {"bytes": 4}
    assert here.run("mxnet-model-server", "--stop").stdout == "Model server stopped.\n"
    assert sorted(path.name for path in here.store.iterdir()) == ["sized.mar", "smile"]
    metrics = (here.folder / "logs" / "model_metrics.log").read_text().splitlines()
    tail = r"#hostname:[^,|]+,requestID:[0-9a-f-]{36},timestamp:\d{10}"
    assert any(re.fullmatch(rf"{TIME} - Read\.Bytes:4\|[^|]*\|{tail}", line) for line in metrics), metrics
    log_text = (here.folder / "logs" / "mms_log.log").read_text()
    logger = r"com\.amazonaws\.ml\.mms\.wlm\.WorkerLifeCycle"
    assert re.search(rf"^{TIME} \[INFO \] W-9000-sized\S* {logger} - a handler's words$", log_text, re.MULTILINE)


def test_https_for_predictions_and_a_socket_for_management(here: Place) -> None:
    socket = here.folder / "management.sock"
    (here.folder / "config.properties").write_text(
        f"inference_address=https://127.0.0.1:{here.port}\nmanagement_address=unix:{socket}\nmodel_store=store\n"
    )
    assert here.run("mxnet-model-server", "--start").returncode == 0
    body = here.curl("-k", f"https://127.0.0.1:{here.port}/ping")
    assert json.loads(body)["status"] == "Healthy"
    through = ("--unix-socket", str(socket))
    assert "models" in json.loads(here.curl(*through, "http://localhost/models"))
    # with any Host header, management answers only at its socket, and nothing else does there
    for host in ("x", f"x:{here.port}", "x:8080", "x:8081"):
        assert "models" in json.loads(here.curl(*through, "-H", f"Host: {host}", "http://localhost/models"))
        assert (
            json.loads(here.curl("-k", "-H", f"Host: {host}", f"https://127.0.0.1:{here.port}/models"))["code"] == 404
        )
    (key,) = here.instance.rglob("server.key")
    assert key.stat().st_mode & 0o077 == 0
    assert here.run("mxnet-model-server", "--stop").stdout == "Model server stopped.\n"
    assert not socket.exists()


def test_the_command_line_of_04_runs_in_the_foreground(here: Place) -> None:
    command = [str(ROOT / "bin" / "mxnet-model-server"), "--models", "grin=store/smile", "--port", str(here.port)]
    here.configure()
    with subprocess.Popen(
        [*command, "--gpu", "2"],
        cwd=here.folder,
        env=here.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        assert any(line == "Model server started.\n" for line in process.stdout)
        settings = psutil.Process(process.pid).environ()
        assert settings["DIMPLE_LOAD_MODELS"] == f"grin={here.store}/smile"
        assert settings["DIMPLE_SHIPPED_MODELS"] == "false"
        assert (settings["DIMPLE_NUMBER_OF_GPU"], settings["CUDA_VISIBLE_DEVICES"]) == ("1", "2")
        assert int(here.pid_files[0].read_text()) == process.pid
        answer = json.loads(here.curl("-T", str(PICTURE), f"http://127.0.0.1:{here.port}/predictions/grin"))
        assert answer[0]["class"] == "smiling"
        assert here.run("mxnet-model-server", "--stop").stdout == "Model server stopped.\n"
        _, stderr = process.communicate(timeout=SECONDS)
    assert "multi-model-server" in stderr
    assert "--gpu is for services of archives" in stderr
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model-store", "nowhere"], "--model-store directory not found: nowhere"),
        (["--mms-config", "nowhere"], "--mms-config file not found: nowhere"),
        (["--log-config", "nowhere"], "--log-config file not found: nowhere"),
        (["--models", "nowhere.mar"], "There is no model nowhere.mar here"),
        (["--models", "s3://bucket/a.mar"], "s3:// cannot be fetched"),
    ],
)
def test_a_missing_file_or_folder_is_reported_in_one_line(here: Place, arguments: list[str], reason: str) -> None:
    done = here.run("multi-model-server", "--start", *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_invalid_configuration_is_reported_in_one_line(here: Place) -> None:
    here.configure("model_store=$$NOWHERE$$")
    done = here.run("multi-model-server")
    assert (done.returncode, done.stderr) == (1, "Invalid configuration: Invalid Environment Variable NOWHERE\n")
    here.configure("job_queue_size=many")
    assert "job_queue_size='many'" in here.run("multi-model-server").stderr
    done = here.run("multi-model-server", TEMP=str(here.folder / "gone"))
    assert done.stderr.startswith("Invalid temp directory: ")


def test_a_stale_pid_file_is_removed(here: Place) -> None:
    here.pid_files[0].write_text(str(os.getpid()))  # a number that another process has got since
    assert here.run("multi-model-server", "--stop").stdout == "Model server already stopped.\n"
    assert here.run("multi-model-server", "--stop").stdout == "Model server is not currently running.\n"


def test_start_and_stop_are_mutually_exclusive(here: Place) -> None:
    assert here.run("multi-model-server", "--start", "--stop").returncode == 2
