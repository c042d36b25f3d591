"""The scripts as they are started. Texts and exit statuses are those of model-archiver 1.0.3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.formats.archive.unpack import unpack
from app.formats.folder import open_model_folder
from app.serving.model import open_model
from app.settings import ROOT
from tests.formats.archive.archives import MANIFEST, put, read_tree

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "given", {"service.py": "print()"})


def run(script: str | Path, *arguments: object, cwd: Path) -> Done:
    """Start a script with the interpreter of the tests, which need not be that of the checkout."""
    command = [sys.executable, str(ROOT / "bin" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_an_archive_is_made_in_the_current_folder_without_output(folder: Path) -> None:
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


def test_errors_have_the_messages_and_exit_codes_of_the_original(folder: Path) -> None:
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


def write_onnx(path: Path, last: str) -> tuple[np.ndarray, np.ndarray]:
    """Write a network of one layer, as exporters do since IR version 4: its arrays are not listed as inputs.

    :param last: the operation that makes its answers.
    :returns: weights and biases.
    """
    draw = np.random.default_rng(7)
    weights, biases = draw.normal(0, 0.05, (4, 192)).astype(np.float32), draw.normal(0, 1, 4).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pictures"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["scores"], transB=1),
        helper.make_node(last, ["scores"], ["answers"]),
    ]
    ends = [("pictures", [1, 3, 8, 8]), ("answers", [1, 4])]
    infos = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends]
    arrays = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(biases, "b")]
    graph = helper.make_graph(nodes, "net", *infos, arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return weights, biases


def test_an_onnx_file_is_converted_to_a_checkpoint_that_computes_the_same(folder: Path) -> None:
    weights, biases = write_onnx(folder / "a.onnx", "Softmax")
    put(folder, {"signature.json": '{"inputs": [{"data_name": "x", "data_shape": [0]}], "input_type": "image/jpeg"}'})
    before = read_tree(folder)
    names = ("--model-name", "net", "--model-path", "given", "--handler", "service:handle", "--convert")
    done = run("model-archiver", *names, cwd=folder.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read_tree(folder) == before
    unpacked = unpack(folder.parent / "net.mar", folder.parent / "net")
    assert {path.name for path in unpacked.iterdir() if path.is_file()} == {
        *("net-symbol.json", "net-0000.params", "service.py", "signature.json"),
    }
    signature = json.loads((unpacked / "signature.json").read_text())
    assert signature["inputs"] == [{"data_name": "pictures", "data_shape": [0, 3, 8, 8]}]
    assert signature["input_type"] == "image/jpeg"
    rows = np.random.default_rng(8).normal(0, 1, (3, 3, 8, 8)).astype(np.float32)
    scores = np.exp(rows.reshape(3, -1) @ weights.T + biases)
    found = open_model(open_model_folder(unpacked), "mxnet").probabilities(rows)
    assert found == pytest.approx(scores / scores.sum(axis=1, keepdims=True), abs=1e-5)


def test_an_onnx_file_that_mxnet_cannot_compute_is_named_with_the_reason(folder: Path) -> None:
    write_onnx(folder / "a.onnx", "Celu")
    names = ("--model-name", "net", "--model-path", "given", "--handler", "service:handle")
    done = run("model-archiver", *names, "--convert", cwd=folder.parent)
    assert done.returncode == 1
    assert "a.onnx cannot be turned into an MXNet checkpoint: " in done.stderr
    assert "Dimple serves it as it is" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder.parent / "net.mar").exists()
