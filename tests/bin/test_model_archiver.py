"""The scripts as they are started. Texts and statuses were seen of model-archiver 1.0.3."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.formats.archive.archives import MANIFEST, put, read_tree

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "given", {"service.py": "print()"})


def run(script: str | Path, *arguments: object, cwd: Path) -> Done:
    """Start a script with the interpreter that runs the tests, which need not be the checkout's own."""
    command = [sys.executable, str(ROOT / "bin" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_an_archive_is_made_in_the_current_folder_without_a_word(folder: Path) -> None:
    done = run(
        "model-archiver",
        "--model-name",
        "m.1",
        "--model-path",
        "given",
        "--handler",
        "service:handle",
        cwd=folder.parent,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with zipfile.ZipFile(folder.parent / "m.1.mar") as archive:
        assert set(archive.namelist()) == {"service.py", "MAR-INF/MANIFEST.json"}
        assert archive.read("MAR-INF/MANIFEST.json").decode() == MANIFEST


def test_errors_are_told_and_end_as_the_originals_do(folder: Path) -> None:
    here = folder.parent
    options = ["--model-name", "m.1", "--model-path", "given", "--handler", "s", "--export-path", "."]
    assert run("model-archiver", *options, cwd=here).returncode == 0
    before = read_tree(here)
    done = run("model-archiver", *options, cwd=here)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "m.1.mar already exists.\n"
        "Please specify --force/-f option to overwrite the model archive output file.\n"
        "See -h/--help for more details.\n"
    )
    assert done.stderr.startswith("ERROR - ")
    done = run("model-archiver", "--model-name", "a b", *options[2:], cwd=here)
    assert done.returncode == 1
    assert done.stderr == (
        "ERROR - Model name contains special characters.\n"
        "The allowed regular expression filter for model name is: ^[A-Za-z0-9][A-Za-z0-9_\\-.]*$\n"
    )
    assert run("model-archiver", *options[2:], cwd=here).returncode == 2
    assert run("model-archiver", *options, "--runtime", "ruby", cwd=here).returncode == 2
    assert run("model-archiver", *options, "--archive-format", "rar", cwd=here).returncode == 2
    assert read_tree(here) == before
    done = run("model-archiver", *options, "-f", cwd=here)
    assert done.returncode == 0
    assert done.stderr.startswith("WARNING - Overwriting ") and done.stderr.endswith("m.1.mar ...\n")


def test_a_link_to_the_script_works_from_anywhere(folder: Path) -> None:
    link = folder.parent / "archiver"
    link.symlink_to(ROOT / "bin" / "model-archiver")
    done = run(link, "--model-name", "m.1", "--model-path", ".", "--handler", "s", "--export-path", "..", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder.parent / "m.1.mar").is_file()


def test_the_exporter_of_mms_0_makes_a_model(tmp_path: Path) -> None:
    signature = (
        '{"inputs": [{"data_name": "data", "data_shape": [0, 3, 8, 8]}], "input_type": "image/jpeg", '
        '"outputs": [{"data_name": "softmax", "data_shape": [0, 2]}], "output_type": "application/json"}'
    )
    put(tmp_path, {"a-symbol.json": "{}", "a-0000.params": "", "signature.json": signature})
    options = ["--model-name", "net", "--model-path", "."]
    done = run("mxnet-model-export", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "net.model") as archive:
        assert {"MANIFEST.json", "mxnet_vision_service.py", "a-0000.params"} <= set(archive.namelist())
    done = run("mxnet-model-export", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR - ") and "already exists" in done.stderr


def test_the_scripts_can_be_started() -> None:
    for name in ("model-archiver", "mxnet-model-export"):
        assert os.access(ROOT / "bin" / name, os.X_OK)
        assert (ROOT / "bin" / name).read_text().startswith("#!/usr/bin/env python3\n")
