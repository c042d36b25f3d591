"""The commands, the code, the answers and the figures of the README, compared with the real ones.

So are the code and the answers of docs/api.md.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import errors
from app.settings import ROOT
from app.zoo.catalogue import load_catalogue
from tests.conftest import SHIPPED, Server
from tests.documents import blocks, lay_out, make_photographs, typed
from tests.server.servers import SECONDS, Place, place

README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LONGEST = 150
RATIO = "([\\d.]+\N{MULTIPLICATION SIGN})"


def table_commands() -> list[str]:
    """Return the commands of the table "I have … I type …"."""
    return re.findall(r"^\| .* \| `(bin/dimple .*)` \|$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Yield a folder with all files that the README's commands name, in which they are typed unchanged."""
    with place(tmp_path_factory.mktemp("readme")) as here:
        here.configure()
        here.use_store()
        lay_out(here)
        shutil.copy(ROOT / "models" / "smile" / "smile.h5", here.folder / "model.h5")
        shutil.copy(ROOT / "models" / "smile" / "synset.txt", here.folder / "labels.txt")
        shutil.copytree(ROOT / "models" / "dogcat", here.store / "net")
        done = here.invoke("models", "export", "net", "--to", "mxnet", "--output", "checkpoint")
        assert done.returncode == 0, done.stderr
        shutil.rmtree(here.store / "net")
        for name in ("net-symbol.json", "net-0000.params", "synset.txt"):
            shutil.copy(here.folder / "checkpoint" / name, here.folder)
        for name, form in (("flowers", "onnx"), ("classifier", "mar")):
            shutil.copytree(here.store / "smile", here.store / name)
            done = here.invoke("models", "export", name, "--to", form)
            assert done.returncode == 0, done.stderr
            shutil.rmtree(here.store / name)
        make_photographs(here, "my-pictures", {"bright": 220, "dark": 30})
        (here.folder / "holiday").mkdir()
        shutil.copy(ROOT / "static" / "astronaut.jpg", here.folder / "holiday")
        yield here


@pytest.fixture
def servers_place(newcomer: Place) -> Place:
    """Return the newcomer's folder with no models but those of a clone: each further one is converted at a start."""
    for folder in newcomer.store.iterdir():
        if folder.is_dir() and folder.name not in SHIPPED:
            shutil.rmtree(folder)
    return newcomer


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def assert_same_answer(given: Any, documented: Any) -> None:
    assert list(given) == list(documented)
    assert given["timing_ms"].keys() == documented["timing_ms"].keys()
    for mine, theirs in zip(given["predictions"], documented["predictions"], strict=True):
        assert mine["class"] == theirs["class"]
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    (mine,), (theirs,) = given["faces"], documented["faces"]
    # processors differ in the last bits, and a face's frame moves a pixel for it
    assert mine["box"] == pytest.approx(theirs["box"], abs=3)


@pytest.mark.parametrize("text", [README, API], ids=["README", "api"])
def test_each_response_in_the_readme_is_that_of_its_command(text: str, server: Server) -> None:
    pairs = re.findall(r"^```bash\n(curl .*)\n```\n\n```json\n((?:.*\n)*?)```$", text, re.MULTILINE)
    assert pairs
    for command, documented in pairs:
        words = shlex.split(command.replace("localhost:8080", f"127.0.0.1:{server.port}"))
        done = subprocess.run([*words, "-sS"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        given, expected = json.loads(done.stdout), json.loads(documented)
        if "code" in expected:
            assert given == expected
        else:
            assert_same_answer(given, expected)


@pytest.mark.parametrize("text", [README, API], ids=["README", "api"])
def test_the_python_code_prints_the_output_in_its_comments(text: str, server: Server) -> None:
    for code in blocks(text, "python"):
        expected = re.findall(r"^(?:print\(.*\)  )?# (?!session)(.*)$", code, re.MULTILINE)
        code = code.replace("http://localhost:8080", server.url(""))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr


@pytest.mark.parametrize("line", [line for line in table_commands() if " pull " not in line])
def test_the_commands_for_existing_models_work(line: str, newcomer: Place) -> None:
    done = typed(newcomer, line)
    assert done.returncode == 0, done.stderr
    if " predict " in line:
        assert "holiday/astronaut.jpg,smiling," in done.stdout
    elif " export " in line:
        assert "read again, its probabilities differ from the model's own by" in done.stdout
    elif " unpack " not in line:
        assert "/predict/" in done.stdout  # the next step


def test_the_network_to_pull_is_in_the_catalogue(tmp_path: Path) -> None:
    (name,) = [line.split()[-1] for line in table_commands() if " pull " in line]
    assert load_catalogue(tmp_path).get(name).name == name


def test_the_server_is_started_queried_reloaded_and_stopped(servers_place: Place) -> None:
    (block,) = [block for block in blocks(README, "bash") if "bin/dimple serve" in block]
    lines = [line for line in block.splitlines() if line.startswith("bin/")]
    assert [line.split()[1] for line in lines] == ["serve", "status", "reload", "stop"]
    for line in lines:
        done = typed(servers_place, line)
        assert done.returncode == 0, done.stderr


def test_the_server_of_multi_model_server_is_started_and_stopped(servers_place: Place) -> None:
    (block,) = [block for block in blocks(README, "bash") if "multi-model-server" in block]
    for line, expected in zip(block.splitlines(), ("Model server started.", "Model server stopped."), strict=True):
        done = typed(servers_place, line)
        assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def test_every_target_of_make_exists() -> None:
    for target in re.findall(r"^make ([\w-]+)", "\n".join(blocks(README, "bash")), re.MULTILINE):
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, timeout=SECONDS, check=True)


def test_the_figures_are_the_measured_ones() -> None:
    measured = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")

    def figure(what: str) -> str:
        found = re.search(rf"^\| {re.escape(what)} \| [^|]* \| {RATIO}", measured, re.MULTILINE)
        assert found, what
        return found[1]

    rows = re.findall(rf"^\| (.*) \| {RATIO} \| {RATIO} \|$", README, re.MULTILINE)
    assert len(rows) == 5
    for name, rate, latency in rows:
        assert (rate, latency) == (figure(f"{name}: requests/s at 8"), figure(f"{name}: p50 at 1 connection"))
    memory = figure("all together: resident memory (PSS)")
    assert f"{memory} the memory and {figure('all together: start to first answers')} the time to start" in README
    day = re.search(r"a cell, (\d{4}-\d\d-\d\d)\.", measured)
    assert day and day[1] in README


@pytest.mark.parametrize("model", ["smile", "dogcat"])
def test_the_accuracies_of_the_model_cards_are_the_measured_ones(model: str) -> None:
    metrics = json.loads((ROOT / "models" / model / "metrics.json").read_text())
    cards = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    row = next(line for line in cards.splitlines() if line.startswith(f"| `{model}` |"))
    assert f"{metrics['accuracy']:.3f} (ROC AUC {metrics['roc_auc']:.3f})" in row
    assert f"{metrics['n']:,} " in row


def test_every_route_of_the_api_exists(client: FlaskClient) -> None:
    routes = set(re.findall(r"`GET (/[\w/<>]*)`", API))
    assert {"/predict/", "/predict/<model>", "/healthz", "/readyz"} <= routes
    for route in routes:
        assert client.get(route.replace("<model>", "smile")).status_code in (200, 303), route


def test_every_error_of_the_api_has_its_status() -> None:
    classes = [var for var in vars(errors).values() if isinstance(var, type) and issubclass(var, errors.DimpleError)]
    statuses = {item.type: item.status for item in classes}
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", API, re.MULTILINE)
    documented = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert documented == {name: statuses[name] for name in documented}
    assert len(documented) > 15


@pytest.mark.parametrize("name", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_every_file_that_is_linked_exists(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w-]+\.md)", index))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
