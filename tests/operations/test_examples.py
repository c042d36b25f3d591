"""The example files and the two documents for operators: everything that they name exists, and their numbers agree."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient

from app.settings import ROOT, Settings, to_environment

DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
DEFAULTS = to_environment({field.name: field.default for field in fields(Settings)})
GUNICORN = (ROOT / "gunicorn.conf.py").read_text()
SERVICE, NGINX = (EXAMPLES / "dimple.service").read_text(), (EXAMPLES / "nginx.conf").read_text()
COMPOSE: Any = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
DOCUMENTS = {path.name: path.read_text() for path in (ROOT / "SECURITY.md", DOCS / "operations.md")}
TEXTS = {**DOCUMENTS, **{path.name: path.read_text() for path in EXAMPLES.iterdir()}}
HOME = "/srv/dimple"
UNITS = {"s": 1, "m": 2**20, "g": 2**30}


def directives(name: str) -> list[str]:
    """Return the values of a directive of the unit, one for each line."""
    return re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)


def nginx(name: str) -> list[str]:
    return re.findall(rf"^\s*{name}\s+([^;]+);", NGINX, re.MULTILINE)


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_setting_exists(name: str) -> None:
    named = {found.rstrip("_") for found in re.findall(r"DIMPLE_[A-Z_]+", TEXTS[name])}
    assert {item for item in named if item not in DEFAULTS and item != "DIMPLE"} == set()


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_link_has_a_target(name: str) -> None:
    folder = ROOT if name == "SECURITY.md" else DOCS
    for path, anchor in re.findall(r"\]\((?!http)([^)#]+)(?:#([^)]+))?\)", DOCUMENTS[name]):
        assert (folder / path).exists(), path
        heads = re.findall(r"^#+ (.*)$", (folder / path).read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads]


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_command_exists(name: str, app: Flask) -> None:
    commands: Any = app.cli
    for words in re.findall(r"(?:bin/|`|exec dimple )dimple ((?:[a-z-]+ ?)+)", TEXTS[name]):
        group: Any = commands
        for word in words.split():
            group = group.get_command(click.Context(group), word)
            assert group is not None, words
            if not isinstance(group, click.Group):
                break
    targets = re.findall(r"^([a-z-]+|\.venv/\S+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:`|^    |sudo |&& )make ((?:\.venv/)?[a-z.-]+)", TEXTS[name], re.MULTILINE):
        assert target in targets, target


def test_every_route_of_the_operators_document_answers(client: FlaskClient) -> None:
    for route in set(re.findall(r"GET (/[\w/<>]+)", DOCUMENTS["operations.md"])):
        assert client.get(route.replace("<model>", "smile")).status_code in (200, 503), route


def test_every_metric_of_the_operators_document_exists() -> None:
    known = (DOCS / "metrics.md").read_text()
    for metric in set(re.findall(r"\bdimple_[a-z_]+", DOCUMENTS["operations.md"])):
        assert f"`{metric}`" in known, metric


def test_the_documented_limits_are_the_defaults() -> None:
    table = DOCUMENTS["SECURITY.md"].split("## Limits")[1].split("\n## ")[0]
    seen = set()
    for row in re.findall(r"^\| [^|]+ \| ([^|]*DIMPLE[^|]*) \| ([^|]+) \|", table, re.MULTILINE):
        names, values = re.findall(r"DIMPLE_[A-Z_]+", row[0]), re.split(r", ", row[1].strip())
        assert [DEFAULTS[name] for name in names] == values, names
        seen |= set(names)
    limits = {name for name in DEFAULTS if re.search("_MAX_|_LIMIT$|_BURST$|_BYTES$|QUEUE_SIZE", name)}
    assert limits <= seen


def test_the_documented_fixed_limits_are_those_of_the_code() -> None:
    from app.engines import conversion_process
    from app.errors import LONGEST_TEXT
    from app.formats import hdf5, signature
    from app.formats.archive.unpack import Limits
    from app.utils import json as model_json
    from app.vision.containers import blocks, container, tiff
    from app.web import forms
    from app.web import json as requests

    text, archive = DOCUMENTS["SECURITY.md"].replace("\u2013", "-"), Limits()
    for sentence in (
        f"{model_json.MAX_BYTES // 2**20} MiB, {model_json.MAX_DEPTH} |",
        f"{signature.MAX_VALUES:,} |",
        f"{hdf5.FREE_BYTES // 2**20} MiB, or times the file's length | - | {hdf5.RATIO} |",
        f"{archive.free_bytes // 2**20} MiB | - | {archive.total_bytes // 2**30} GiB, {archive.entries:,}, "
        f"{archive.ratio} |",
        f"{conversion_process.OPENING_SECONDS:.0f} s; {conversion_process.LONGEST_SECONDS} s |",
        f"{LONGEST_TEXT:,} characters",
        f"{requests.MOST_VALUES:,}; {requests.MOST_ESCAPES:,}; {requests.LONGEST_UNICODE // 2**20} MiB | 400 |",
        f"{forms.HEADER_BYTES:,}; {forms.HEADERS} | 413 |",
        f"{container.LONGEST_SIDE:,} |",
        f"{blocks.MAX_SCANS}; {container.MAX_BLOCKS:,}; {container.MAX_RUNS:,}; {tiff.MAX_VALUES:,} |",
    ):
        assert sentence in text, sentence


def test_the_documented_versions_are_the_installed_ones() -> None:
    pins = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    table = DOCUMENTS["SECURITY.md"].split("## What cannot be upgraded")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([a-z][^|]*) \| ([\d., ]+) \|", table, re.MULTILINE)
    assert len(rows) > 5
    for names, versions in rows:
        assert [pins[name] for name in names.split(", ")] == versions.split(", "), names


def test_the_systemd_unit_starts_the_built_server_and_allows_its_folders() -> None:
    (command,) = directives("ExecStart")
    assert command == f"{HOME}/.venv/bin/gunicorn"
    assert "BIN = .venv/bin" in (ROOT / "Makefile").read_text()
    written = {part.removeprefix(f"{HOME}/") for part in directives("ReadWritePaths")[0].split()}
    assert written == {DEFAULTS[f"DIMPLE_{name}_DIR"] for name in ("INSTANCE", "UPLOADS", "MODELS")}
    assert directives("ProtectSystem") == ["strict"]
    assert directives("User") == ["dimple"]
    assert directives("MemoryDenyWriteExecute") == []


def test_stop_timeouts_are_longer_than_the_longest_request() -> None:
    longest = max(30, int(DEFAULTS["DIMPLE_UNREGISTER_TIMEOUT"]))
    assert "graceful_timeout = max(30, _settings.unregister_timeout)" in GUNICORN
    assert int(directives("TimeoutStopSec")[0]) > longest
    assert seconds(COMPOSE["services"]["dimple"]["stop_grace_period"]) > longest


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "dimple.service"
    unit.write_text(SERVICE.replace(f"{HOME}/.venv", str(ROOT / ".venv")).replace(HOME, str(ROOT)))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "dimple.service" in line] == []


def test_the_limits_of_nginx_exceed_those_of_dimple() -> None:
    assert re.findall(r"server (\S+:\d+);", NGINX) == [f"127.0.0.1:{DEFAULTS['DIMPLE_PORT']}"]
    assert DEFAULTS["DIMPLE_MANAGEMENT_PORT"] not in NGINX
    (body,) = nginx("client_max_body_size")
    longest = int(DEFAULTS["DIMPLE_MAX_REQUEST_BYTES"])
    assert longest < int(body[:-1]) * UNITS[body[-1]] < 1.1 * longest
    assert seconds(nginx("proxy_read_timeout")[0]) > int(DEFAULTS["DIMPLE_RESPONSE_TIMEOUT"])
    (keepalive,) = re.findall(r"^keepalive = (\d+)", GUNICORN, re.MULTILINE)
    assert seconds(nginx("keepalive_timeout")[0]) < int(keepalive)
    trusted = [directive for directive in directives("Environment") if directive.startswith("DIMPLE_TRUSTED_PROXIES=")]
    assert trusted == ["DIMPLE_TRUSTED_PROXIES=127.0.0.1"]


@pytest.mark.skipif(shutil.which("nginx") is None or shutil.which("openssl") is None, reason="nginx is not installed")
def test_nginx_accepts_the_file(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=dimple.example.org"]
    command = ["openssl", "req", *options, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    site = NGINX.replace("/etc/ssl/certs/dimple.pem", str(certificate))
    (tmp_path / "site.conf").write_text(site.replace("/etc/ssl/private/dimple.key", str(key)))
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; events {{}} http {{ include {tmp_path}/site.conf; }}")
    done = subprocess.run(["nginx", "-t", "-c", str(whole)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_compose_file_matches_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (service,) = COMPOSE["services"].values()
    assert (EXAMPLES / service["build"] / "Dockerfile").samefile(ROOT / "Dockerfile")
    assert f"WORKDIR {HOME}" in dockerfile
    assert service["ports"] == [f"{DEFAULTS['DIMPLE_PORT']}:{DEFAULTS['DIMPLE_PORT']}"]
    places = {volume.split(":")[0]: volume.split(":")[1] for volume in service["volumes"]}
    assert places == {name: f"{HOME}/{name}" for name in COMPOSE["volumes"]}
    assert set(places) == {DEFAULTS[f"DIMPLE_{name}_DIR"] for name in ("INSTANCE", "UPLOADS", "MODELS")}
    assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_both_images_run_without_a_compiler_and_not_as_root() -> None:
    stages = re.split(r"^(?=FROM )", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    by_name = {stage.split()[3]: stage for stage in stages}
    assert list(by_name)[-1] == "full"  # what is built if none is named
    for name in ("serve", "full"):
        stage = by_name["base"] + by_name[name]
        assert re.findall(r"^USER (\w+)$", stage, re.MULTILINE) == ["dimple"]
        assert "HEALTHCHECK" in stage and "gcc" not in stage and "pip install" not in stage
    assert "--require-hashes -r requirements-serve.lock" in by_name["serve-packages"]
    assert "--require-hashes -r requirements.lock" in by_name["full-packages"]
    assert "libquadmath" not in by_name["base"] + by_name["serve"]


def test_irreplaceable_files_are_backed_up() -> None:
    script, document = (EXAMPLES / "backup.sh").read_text(), DOCUMENTS["operations.md"]
    table = document.split("## What is kept where")[1].split("\n## ")[0]
    for path in re.findall(r"^\| (.*?) \|[^|]*\| \*\*is lost", table, re.MULTILINE):
        for name in re.findall(r"`(?:instance/)?([\w.]+)/?`", path):
            assert name == ".bak" or re.search(rf"\b{re.escape(name)}\b", script), name
