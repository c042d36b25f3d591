"""Access control with a real gunicorn: the start, tokens in all processes, limits of both layers."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.security.tokens import add_token
from app.settings import ROOT
from tests.conftest import START_SECONDS, Server
from tests.helpers import wait_until
from tests.pictures import encode, face_crop
from tests.server.servers import Place, place
from tests.server.test_gunicorn import curl

FACE = encode(face_crop())
CHANGE_SECONDS = 10
WAYS_OUT = ("token add NAME --role management", "MANAGEMENT_WITHOUT_TOKEN=true")


@pytest.fixture(scope="module")
def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """Yield a server of two processes, managed from other machines too, with a token for each role."""
    work = tmp_path_factory.mktemp("guarded")
    tokens = {role: add_token(tokens_of(work), role, role) for role in ("management", "prediction")}
    server = Server(
        models_dir,
        work,
        DIMPLE_LOAD_MODELS="smile",
        DIMPLE_MANAGEMENT_HOST="0.0.0.0",
        DIMPLE_PREDICTION_TOKENS="true",
        DIMPLE_RATE_LIMIT="1",
        DIMPLE_RATE_BURST="40",
        DIMPLE_MAX_REQUEST_LINE="300",
        DIMPLE_MAX_HEADERS="20",
        DIMPLE_MAX_HEADER_BYTES="500",
        DIMPLE_GZIP_REQUESTS="true",
    )
    try:
        server.wait_until_ready()
        yield server, tokens
    finally:
        server.stop()


def tokens_of(work: Path) -> Path:
    """Return the tokens file of a server."""
    return work / "instance" / "tokens.json"


def flask(work: Path, *arguments: str) -> str:
    """Run a command of ``flask`` on the instance folder of a server."""
    environ = os.environ | {"DIMPLE_INSTANCE_DIR": str(work / "instance")}
    command = [sys.executable, "-m", "flask", "--app", str(ROOT / "app"), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def code_of(url: str, token: str = "", *more: str) -> int:
    return curl(*(("-H", f"Authorization: Bearer {token}") if token else ()), *more, url)[0]


def raw(server: Server, text: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and parse the response: status, headers, body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(text)
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def test_a_token_and_its_revocation_take_effect_in_all_processes_within_a_second(
    guarded: tuple[Server, dict[str, str]],
) -> None:
    server, tokens = guarded
    models = f"http://127.0.0.1:{server.management_port}/models"
    assert code_of(models) == 401
    assert code_of(models, tokens["prediction"]) == 403
    assert code_of(models, tokens["management"]) == 200
    work = server.log.parent
    fresh = flask(work, "token", "add", "fresh", "--role", "management", "--days", "2").strip()
    # from any process
    wait_until(lambda: all(code_of(models, fresh) == 200 for _ in range(4)), 0.1)
    listed = flask(work, "token", "list")
    assert "fresh" in listed
    assert fresh not in listed
    assert flask(work, "token", "revoke", "fresh") == "revoked fresh\n"
    wait_until(lambda: all(code_of(models, fresh) in (401, 429) for _ in range(4)), 0.1)
    logged = server.log.read_text()
    assert "Traceback" not in logged
    assert not any(token in logged for token in (fresh, *tokens.values()))


def test_health_routes_need_no_token_and_predictions_do(guarded: tuple[Server, dict[str, str]], tmp_path: Path) -> None:
    server, tokens = guarded
    (tmp_path / "face.jpg").write_bytes(FACE)
    sending = ("-T", str(tmp_path / "face.jpg"))
    for path in ("/healthz", "/readyz", "/ping"):
        assert code_of(server.url(path)) == 200
    for path in ("/predict/smile", "/predictions/smile"):
        assert code_of(server.url(path), "", *sending) == 401
        assert code_of(server.url(path), tokens["prediction"], *sending) == 200
    status, headers, body = raw(server, b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="Dimple"')
    assert b'name="token"' in body


def test_the_rate_limit_applies_to_the_server_and_not_to_each_process(guarded: tuple[Server, dict[str, str]]) -> None:
    server, _ = guarded
    counted = add_token(tokens_of(server.log.parent), "counted", "prediction")
    wait_until(lambda: code_of(server.url("/predict/"), counted) == 200, 0.1)
    request = f"GET /predict/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {counted}\r\nConnection: close\r\n\r\n"
    started = time.monotonic()
    codes, retries = [], []
    while 429 not in codes or len(codes) < 60:  # a connection each, to either process
        status, headers, _ = raw(server, request.encode())
        if status == 401:  # this process has not looked for new tokens yet
            continue
        codes.append(status)
        if status == 429:
            retries.append(int(headers["retry-after"]))
    earned = time.monotonic() - started + CHANGE_SECONDS
    assert codes.count(429) + codes.count(200) == len(codes)
    assert 20 <= codes.count(200) <= 40 + earned
    assert min(retries) >= 1
    assert code_of(server.url("/healthz")) == 200


HOST = b"Host: x\r\n"
REFUSED = [
    (b"GET /" + b"x" * 400 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "URITooLong"),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: y\r\n" % n for n in range(30)) + b"\r\n",
     431, "HeadersTooLarge"),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Long: " + b"y" * 600 + b"\r\n\r\n", 431, "HeadersTooLarge"),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Endless: " + b"y" * 200_000, 431, "HeadersTooLarge"),
    (b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n", 400, "BadRequest"),
    (b"nonsense\r\n\r\n", 400, "BadRequest"),
    (b"GET /healthz HTTP/1.1\r\n" + HOST + b"Bad Name: x\r\n\r\n", 400, "BadRequest"),
    (b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "BadRequest"),
    (b"POST /healthz HTTP/1.1\r\n" + HOST + b"Expect: miracles\r\n\r\n", 417, "ExpectationFailed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "status", "kind"), REFUSED)
def test_requests_refused_before_the_application_get_its_error_format(
    guarded: tuple[Server, dict[str, str]], text: bytes, status: int, kind: str
) -> None:
    server, _ = guarded
    code, headers, body = raw(server, text)
    document = json.loads(body)
    assert (code, document["code"], document["type"]) == (status, status, kind)
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["connection"] == "close"
    assert "Traceback" not in server.log.read_text()


def test_a_compressed_bomb_is_refused_in_chunks_too(guarded: tuple[Server, dict[str, str]], tmp_path: Path) -> None:
    server, tokens = guarded
    bomb, fair = tmp_path / "bomb.gz", tmp_path / "fair.gz"
    bomb.write_bytes(gzip.compress(bytes(200 * 2**20), 9))  # 200 MB in 200 KB
    fair.write_bytes(gzip.compress(FACE))
    for way in ((), ("-H", "Transfer-Encoding: chunked")):
        packed = ("-H", "Content-Encoding: gzip", *way)
        curl_arguments = (server.url("/predict/smile"), tokens["management"], *packed)
        assert code_of(*curl_arguments, "-T", str(bomb)) == 413
        assert code_of(*curl_arguments, "-T", str(fair)) == 200


def test_public_management_requires_a_token_or_an_explicit_setting(models_dir: Path, tmp_path: Path) -> None:
    server = Server(models_dir, tmp_path, DIMPLE_MANAGEMENT_HOST="0.0.0.0")
    assert server.process.wait(timeout=START_SECONDS) != 0
    log_text = server.log.read_text().strip()
    assert len(log_text.splitlines()) == 1
    assert "DIMPLE_MANAGEMENT_HOST=0.0.0.0" in log_text
    assert all(way in log_text for way in WAYS_OUT)


def test_a_single_public_port_accepts_a_token_too(models_dir: Path, tmp_path: Path) -> None:
    one = {
        "DIMPLE_HOST": "0.0.0.0",
        "DIMPLE_MANAGEMENT_HOST": "0.0.0.0",
        "DIMPLE_PORT": "8090",
        "DIMPLE_MANAGEMENT_PORT": "8090",
    }
    server = Server(models_dir, tmp_path, **one)
    assert server.process.wait(timeout=START_SECONDS) != 0
    assert all(way in server.log.read_text() for way in WAYS_OUT)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as here:
        yield here


def test_the_commands_report_the_same_error_in_one_line(here: Place) -> None:
    done = here.dimple("serve", DIMPLE_MANAGEMENT_HOST="0.0.0.0")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(way in done.stderr for way in WAYS_OUT)

    addresses = (
        f"inference_address=http://127.0.0.1:{here.port}\nmanagement_address=http://0.0.0.0:{here.management_port}\n"
    )
    configuration = here.folder / "config.properties"
    configuration.write_text(addresses)
    refused = here.run("multi-model-server", "--start")
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert f"management_address=http://0.0.0.0:{here.management_port}" in line
    assert "token add NAME --role management" in line
    assert "management_without_token=true" in line


def test_a_server_with_a_configuration_file_uses_the_tokens_of_flask_token(here: Place) -> None:
    configuration = here.folder / "config.properties"
    configuration.write_text(
        f"inference_address=http://127.0.0.1:{here.port}\nmanagement_address=http://0.0.0.0:{here.management_port}\n"
    )
    token = here.invoke("token", "add", "boss", "--role", "management").stdout.strip()
    started = here.run("multi-model-server", "--start")
    assert started.returncode == 0, started.stderr
    try:
        models = f"http://127.0.0.1:{here.management_port}/models"
        assert (code_of(models), code_of(models, token)) == (401, 200)
    finally:
        here.run("multi-model-server", "--stop")


def test_a_configuration_file_may_allow_management_without_a_token(here: Place) -> None:
    here.configure("management_without_token=true")
    text = (here.folder / "config.properties").read_text()
    (here.folder / "config.properties").write_text(
        text.replace(f"127.0.0.1:{here.management_port}", f"0.0.0.0:{here.management_port}")
    )
    started = here.run("multi-model-server", "--start")
    assert started.returncode == 0, started.stderr
    assert started.stderr == ""
    try:
        assert code_of(f"http://127.0.0.1:{here.management_port}/models") == 200
    finally:
        here.run("multi-model-server", "--stop")
