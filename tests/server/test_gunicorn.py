"""A real gunicorn, with requests of real clients."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from app.settings import ROOT
from bench.ports import free_ports
from tests.conftest import Server
from tests.helpers import wait_until
from tests.pictures import animation, astronaut, encode, noise, plain, png_bomb


def curl(*arguments: str) -> tuple[int, str]:
    """Run curl; return the HTTP status and the body."""
    command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "face.jpg"
    path.write_bytes(encode(astronaut()))
    return path


def test_curl_gets_an_answer_to_a_form_and_to_a_raw_body(server: Server, portrait: Path) -> None:
    by_form = curl("-F", f"file=@{portrait}", server.url("/predict/smile"))
    by_put = curl("-T", str(portrait), server.url("/predict/smile"))
    by_post = curl("--data-binary", f"@{portrait}", server.url("/predict/smile"))
    answers = [json.loads(body)["predictions"] for code, body in (by_form, by_put, by_post) if code == 200]
    assert len(answers) == 3
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0]["class"] == "smiling"


def test_many_concurrent_clients_get_the_same_answers_as_one(server: Server) -> None:
    pictures = [encode(plain(60 + number, 90)) for number in range(6)]

    def ask(number: int) -> dict[str, float]:
        request = urllib.request.Request(server.url("/predict/dogcat"), pictures[number % 6], method="POST")
        with urllib.request.urlopen(request, timeout=60) as response:
            return {found["class"]: found["probability"] for found in json.load(response)["predictions"]}

    alone = [ask(number) for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, range(48)))
    for answer, expected in zip(together, alone * 8, strict=True):
        # lone and concurrent rows are compiled apart: on some processors they differ in the last bit
        assert answer == pytest.approx(expected, abs=1e-6)


def test_a_too_long_body_gets_a_response_and_not_a_reset_connection(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "long.jpg"
    path.write_bytes(noise(3000, 3000))
    assert path.stat().st_size > 4 * 2**20
    # without Expect, curl sends all of it before it listens
    for sending in (["-F", f"file=@{path}"], ["-T", str(path)]):
        code, body = curl("-H", "Expect:", *sending, server.url("/predict/smile"))
        assert (code, json.loads(body)["code"]) == (413, 413)
    code, body = curl(
        "-H", "Expect:", "-H", "Transfer-Encoding: chunked", "-T", str(path), server.url("/predict/smile")
    )
    assert (code, json.loads(body)["code"]) == (413, 413)


def test_the_server_survives_bad_requests(server: Server) -> None:
    for data in (b"", b"hello", encode(astronaut())[:5000], png_bomb(), b"\xff\xd8\xff", animation()[:400]):
        request = urllib.request.Request(server.url("/predict/smile"), data, method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert 400 <= caught.value.code < 500
        caught.value.close()
    assert curl(server.url("/readyz"))[0] == 200
    assert "Traceback" not in server.log.read_text()


def test_a_client_that_disconnects_during_a_request_does_not_affect_others(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /predict/smile HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf")
    assert curl(server.url("/healthz"))[0] == 200
    assert "Traceback" not in server.log.read_text()


def test_the_management_port_serves_health_and_nothing_else(server: Server) -> None:
    management = f"http://127.0.0.1:{server.management_port}"
    assert curl(f"{management}/healthz")[0] == 200
    assert curl(f"{management}/predict/")[0] == 404
    # the Host header does not choose the port
    assert curl("-H", f"Host: x:{server.port}", f"{management}/predict/")[0] == 404
    assert curl("-H", f"Host: x:{server.management_port}", server.url("/predict/"))[0] == 200


def test_nothing_is_written_into_the_home(server: Server) -> None:
    home = server.log.parent / "home"
    assert list(home.iterdir()) == []


def test_a_new_model_folder_is_served_and_a_broken_one_does_not_affect_others(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models" / "smile", models / "grin", ignore=shutil.ignore_patterns("synset.txt", "*.h5"))
    shutil.copytree(ROOT / "models" / "smile", models / "broken")
    (models / "broken" / "smile-0000.params").write_bytes(b"no parameters")
    shutil.copytree(ROOT / "models" / "smile", models / "keras", ignore=shutil.ignore_patterns("*.params", "*.json"))
    server = Server(models, tmp_path)
    try:
        server.wait_until_ready()
        listed = {model["model"]: model for model in json.loads(curl(server.url("/predict/"))[1])["models"]}
        assert listed["grin"]["labels"] == ["0", "1"]
        assert (listed["keras"]["engine"], listed["keras"]["parity"]["reference"]) == ("openvino", "keras")
        assert (listed["broken"]["state"], listed["imagenet"]["state"]) == ("failed", "ready")
        assert "smile-0000.params" in listed["broken"]["reason"]
        code, body = curl("--data-binary", "x", server.url("/predict/broken"))
        assert (code, json.loads(body)["type"]) == (503, "ModelUnavailable")
    finally:
        server.stop()


def test_make_run_ends_with_all_its_processes(models_dir: Path, tmp_path: Path) -> None:
    server = Server(models_dir, tmp_path, by_make=True, DIMPLE_LOAD_MODELS="smile")
    try:
        server.wait_until_ready()
    finally:
        server.process.kill()  # which make cannot pass on
        server.process.wait(timeout=60)
    wait_until(lambda: not _is_listening(server.port))


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_single_public_port_without_a_token_is_refused(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    environ = os.environ | {"DIMPLE_PORT": str(port), "DIMPLE_MANAGEMENT_PORT": str(port)}
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "DIMPLE_MANAGEMENT_HOST=0.0.0.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_refusals_over_one_connection_are_all_answered(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for number in range(400):
        connection.request("POST", "/predictions/absent", b"x" * (1 if number % 2 else 3000))
        response = connection.getresponse()
        response.read()
        assert response.status == 404
    connection.close()
