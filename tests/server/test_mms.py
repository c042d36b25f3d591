"""Tutorials of Multi Model Server, followed with curl against a real server of two processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.conftest import Server
from tests.helpers import wait_until

SERVICE = """
import os

from mms.context import Context


class Service:
    def initialize(self, context):
        assert isinstance(context, Context)
        self.gpu = context.system_properties.get("gpu_id")

    def handle(self, data, context):
        return [{"bytes": len(row["body"]), "gpu": self.gpu, "pid": os.getpid()} for row in data]
"""
PICTURE = ROOT / "static" / "astronaut.jpg"


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-s", *arguments], capture_output=True, text=True, check=True, timeout=120).stdout


class MmsServer(Server):
    """The server, and an archive in its model store that ``model-archiver`` has packed."""

    def __init__(self, work_dir: Path) -> None:
        store, source = work_dir / "store", work_dir / "source"
        shutil.copytree(ROOT / "models" / "smile", store / "smile")
        source.mkdir()
        (source / "service.py").write_text(SERVICE)
        archiver = [str(ROOT / "bin" / "model-archiver"), "--model-name", "sized", "--model-path", str(source)]
        options = ["--handler", "service:handle", "--export-path", str(store), "--force"]
        subprocess.run([*archiver, *options], check=True, capture_output=True)
        shutil.move(store / "sized.mar", store / "kept.bin")  # out of sight of the start
        super().__init__(store, work_dir, DIMPLE_SHIPPED_MODELS="false")
        self.store = store

    def manage(self, method: str, path: str) -> str:
        return curl("-X", method, f"http://127.0.0.1:{self.management_port}{path}")

    def predict(self, name: str) -> str:
        return curl("-T", str(PICTURE), self.url(f"/predictions/{name}"))

    def processes(self) -> list[int]:
        """Return the server processes under the one that was started."""
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


@pytest.fixture(scope="module")
def mms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MmsServer]:
    server = MmsServer(tmp_path_factory.mktemp("mms"))
    try:
        server.wait_until_ready()
        shutil.move(server.store / "kept.bin", server.store / "sized.mar")
        yield server
    finally:
        server.stop()


def test_register_predict_and_unregister_as_the_tutorial_types_it(mms: MmsServer) -> None:
    assert json.loads(mms.predict("sized"))["message"] == "Model not found: sized"
    assert json.loads(mms.manage("POST", "/models?url=sized.mar&initial_workers=1&synchronous=true")) == {
        "status": "Workers scaled"
    }
    answers = [json.loads(mms.predict("sized")) for _ in range(12)]  # of both processes, most likely
    assert {(answer["bytes"], answer["gpu"]) for answer in answers} == {(PICTURE.stat().st_size, None)}
    assert json.loads(mms.manage("DELETE", "/models/sized")) == {"status": 'Model "sized" unregistered'}
    assert [json.loads(mms.predict("sized"))["code"] for _ in range(6)] == [404] * 6


def test_a_registration_survives_a_restart_of_all_workers(mms: MmsServer) -> None:
    mms.manage("POST", "/models?url=sized.mar&model_name=lasting&initial_workers=1")
    before = mms.processes()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: bool(now := set(mms.processes())) and not now & set(before), 0.05, 60)
    mms.wait_until_ready()
    assert [json.loads(mms.predict("lasting"))["bytes"] for _ in range(6)] == [PICTURE.stat().st_size] * 6
    mms.manage("DELETE", "/models/lasting")


def test_a_legacy_call_sends_the_input_in_a_form_field(mms: MmsServer) -> None:
    answer = json.loads(curl("-F", f"/conv2d_1_input1=@{PICTURE}", mms.url("/smile/predict")))
    assert [item["class"] for item in answer] == ["smiling", "non-smiling"]


def test_no_handler_process_is_left_when_the_server_stops(mms: MmsServer) -> None:
    """Stop the server of this file; this test is its last."""
    mms.manage("POST", "/models?url=sized.mar&initial_workers=2")
    pid = json.loads(mms.predict("sized"))["pid"]
    assert Path(f"/proc/{pid}").exists()
    mms.stop()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 0.05)
