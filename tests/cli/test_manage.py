"""``dimple models list``, ``info``, ``register`` and ``remove``, without a server and with one."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.server.servers import PICTURE, Place, place

HEADS = ["name", "version", "weights", "state"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("manage")) as here:
        here.use_store()
        yield here


@pytest.fixture(scope="module")
def served(here: Place) -> Iterator[Place]:
    done = here.dimple("serve")
    assert done.returncode == 0, done.stderr
    yield here
    here.invoke("stop")


@pytest.fixture
def grin(here: Place) -> Iterator[Path]:
    """Yield a second model, put into the models folder while the server runs."""
    folder = here.store / "grin"
    shutil.copytree(here.store / "smile", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def table(here: Place) -> list[list[str]]:
    done = here.invoke("models", "list")
    assert done.returncode == 0, done.stderr
    return [line.split(maxsplit=2) for line in done.stdout.replace("MXNet, Keras", "MXNet+Keras").splitlines()]


def test_without_a_server_the_models_folder_is_listed(here: Place) -> None:
    assert [row[:2] for row in table(here)] == [HEADS[:2], ["smile", "1.0"]]
    assert table(here)[1][2].split() == ["MXNet+Keras", "stopped"]


def test_without_a_server_nothing_can_be_registered(here: Place) -> None:
    done = here.invoke("models", "register", "smile")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: No server is running.")
    assert done.stderr.count("\n") == 1


def test_a_missing_model_is_reported_in_one_line_with_the_existing_models(here: Place) -> None:
    for command in ("info", "remove"):
        done = here.invoke("models", command, "smiel")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "smile" in done.stderr


def test_a_folder_is_deleted_only_after_confirmation(here: Place, grin: Path) -> None:
    assert here.invoke("models", "remove", "grin").returncode == 1  # its standard input is empty
    assert grin.is_dir()
    done = here.invoke("models", "remove", "grin", "--yes")
    assert (done.returncode, done.stdout) == (0, f"deleted {grin}\n")
    assert not grin.exists()


def test_a_model_is_registered_answers_and_is_removed(served: Place, grin: Path) -> None:
    assert [(row[0], row[2].split()[1:]) for row in table(served)[1:]] == [
        ("grin", ["not", "registered"]),
        ("smile", ["ready"]),
    ]
    done = served.invoke("models", "register", "grin", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert f"http://localhost:{served.port}/predict/grin" in done.stdout
    assert "state       ready" in served.invoke("models", "info", "grin").stdout
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}/predict/grin", PICTURE.read_bytes())
    with urllib.request.urlopen(request, timeout=60) as response:
        assert json.load(response)["predictions"][0]["class"] == "smiling"

    again = served.invoke("models", "register", "grin")
    assert again.returncode == 1
    assert "grin is already registered" in again.stderr

    done = served.invoke("models", "remove", "grin", "--yes")
    assert (done.returncode, done.stdout) == (0, f"unregistered grin\ndeleted {grin}\n")
    assert [row[0] for row in table(served)] == ["name", "smile"]


def test_a_server_with_tokens_requires_a_token(served: Place, grin: Path) -> None:
    token = served.invoke("token", "add", "ops", "--role", "management").stdout.strip()
    curl_arguments = ("-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{served.management_port}/models")
    try:
        wait_until(lambda: served.curl(*curl_arguments) == "401", 0.05)  # the server looks for new tokens every second
        refused = served.invoke("models", "register", "grin")
        assert refused.returncode == 1
        assert "--token" in refused.stderr and refused.stderr.count("\n") == 1
        done = served.invoke("models", "register", "grin", MANAGEMENT_TOKEN=token)
        assert done.returncode == 0, done.stderr
        done = served.invoke("models", "remove", "grin", "--keep-files", "--token", token)
        assert (done.returncode, done.stdout) == (0, "unregistered grin\n")
        assert grin.is_dir()
    finally:
        served.invoke("token", "revoke", "ops")
