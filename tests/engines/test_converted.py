"""A model's converted network in its own folder, when it is served, and why not."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.conversion import load_reference
from app.engines.conversion_process import cached_entry
from app.engines.converted import converted_entry, write_converted
from app.engines.loader import load
from app.engines.parity import LIMIT, ORDER, predict_each, samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, is_model_folder, open_model_folder
from app.settings import ROOT
from tests.engines.networks import classifier, convolution, model_folder, mx, pictures

ORIGINAL = ("net-symbol.json", "net-0000.params")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that was converted on a complete installation."""
    work = tmp_path_factory.mktemp("converted")
    folder = model_folder(work / "net", classifier(mx.sym.relu(convolution())))
    write_converted(folder, "auto", cached_entry(folder, "auto", work / "cache"))
    return folder.path


@pytest.fixture
def net(converted: Path, tmp_path: Path) -> Path:
    """Return a copy of the converted model."""
    return Path(shutil.copytree(converted, tmp_path / "net"))


def without_original(net: Path) -> ModelFolder:
    for name in ORIGINAL:
        (net / name).unlink()
    return open_model_folder(net)


def conversions(caplog: pytest.LogCaptureFixture) -> int:
    return sum("Converting" in record.getMessage() for record in caplog.records)


def test_the_proof_states_the_comparison(converted: Path) -> None:
    proof = json.loads((converted / "proof.json").read_text())
    assert set(proof["source"]) == set(ORIGINAL)
    assert {"converted/model.xml", "converted/model.bin"} < set(proof["result"])
    comparison = proof["converted"]
    assert comparison["max_abs_difference"] < comparison["limit"] == LIMIT
    assert comparison["reference"] == {"name": "mxnet", "version": "1.9.1"}
    assert (comparison["inputs"], comparison["same_class"]) == (14, 14)
    folder = open_model_folder(converted)
    reference = load_reference(folder, "auto")
    expected = predict_each(reference.engine, samples(reference.signature.preprocess, (0, 3, 8, 8), ORDER))
    assert np.load(converted / "converted" / "answers.npy") == pytest.approx(expected, abs=1e-6)


def test_a_converted_model_does_not_contain_paths_of_its_machine(converted: Path) -> None:
    for path in (converted / "proof.json", *(converted / "converted").iterdir()):
        assert str(converted.parent).encode() not in path.read_bytes()


@pytest.mark.parametrize("original", [True, False])
def test_a_converted_model_is_served_without_a_conversion(
    net: Path, original: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    expected = load_reference(open_model_folder(net), "auto").engine.predict(pictures(3))
    folder = open_model_folder(net) if original else without_original(net)
    assert is_model_folder(net)
    opened = load(folder, "auto", tmp_path / "cache")
    assert (opened.kind, opened.precision) == ("openvino", "fp32")
    assert opened.parity is not None and opened.parity.reference == "mxnet"
    assert opened.engine.predict(pictures(3)) == pytest.approx(expected, abs=LIMIT / 10)
    assert conversions(caplog) == 0


def test_an_installation_without_mxnet_and_onnx_serves_it(net: Path, tmp_path: Path) -> None:
    without_original(net)
    code = f"""
import sys
for name in ("mxnet", "keras", "onnx", "h5py", "sklearn", "matplotlib", "scipy", "cv2"):
    sys.modules[name] = None
from pathlib import Path
from app.engines.loader import load
from app.formats.folder import open_model_folder
print(load(open_model_folder(Path({str(net)!r})), "auto", Path({str(tmp_path / "cache")!r})).kind)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["openvino"], done.stderr


@pytest.mark.parametrize("engine", ["mxnet", "keras"])
def test_the_reference_serves_if_it_is_chosen(net: Path, engine: str, tmp_path: Path) -> None:
    assert load(open_model_folder(net), engine, tmp_path / "cache").kind == "mxnet"


def flip_a_weight(net: Path) -> None:
    weights = bytearray((net / "converted" / "model.bin").read_bytes())
    weights[100] ^= 64
    (net / "converted" / "model.bin").write_bytes(weights)


def change_the_original(net: Path) -> None:
    model_folder(net, classifier(mx.sym.sigmoid(convolution())), seed=1)


def change_the_answers(net: Path) -> None:
    """Store the answers of another network, as on a processor that computes different outputs."""
    path = net / "converted" / "answers.npy"
    np.save(path, np.load(path)[:, ::-1].copy())
    proof = json.loads((net / "proof.json").read_text())
    proof["result"]["converted/answers.npy"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (net / "proof.json").write_text(json.dumps(proof))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip_a_weight, "model.bin is not the file that was proven"),
        (lambda net: (net / "proof.json").write_text("{"), "converted is not served"),
        (lambda net: (net / "proof.json").unlink(), "has no proof"),
        (change_the_original, "made from another file than net-symbol.json"),
    ],
)
def test_files_that_differ_from_the_proof_are_not_served(
    net: Path, harm: Any, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harm(net)
    assert converted_entry(open_model_folder(net), "auto", tmp_path / "cache") is None
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert reason in warning and "dimple models convert net" in warning


def test_the_original_is_then_converted_again(net: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    change_the_original(net)
    opened = load(open_model_folder(net), "auto", tmp_path / "cache")
    expected = load_reference(open_model_folder(net), "auto").engine.predict(pictures(3))
    assert opened.engine.predict(pictures(3)) == pytest.approx(expected, abs=LIMIT / 10)
    assert conversions(caplog) == 1


def test_a_model_without_its_original_is_refused_if_it_differs_from_the_proof(net: Path, tmp_path: Path) -> None:
    flip_a_weight(net)
    with pytest.raises(ModelFormatError, match=r"model\.bin is not the file that was proven"):
        load(without_original(net), "auto", tmp_path / "cache")


def test_a_machine_that_computes_different_outputs_refuses_the_model(net: Path, tmp_path: Path) -> None:
    change_the_answers(net)
    with pytest.raises(ModelFormatError, match=r"its probabilities differ from those of mxnet by"):
        load(without_original(net), "auto", tmp_path / "cache")


def test_signature_json_may_change_the_pixels_but_not_the_input(net: Path, tmp_path: Path) -> None:
    folder = without_original(net)
    document = json.loads((net / "signature.json").read_text())
    document["preprocess"]["mean"] = [0.5]
    (net / "signature.json").write_text(json.dumps(document))
    opened = load(open_model_folder(folder.path), "auto", tmp_path / "cache")
    assert opened.signature.preprocess.mean == (0.5,)
    document["inputs"][0]["data_shape"] = [0, 3, 9, 9]
    (net / "signature.json").write_text(json.dumps(document))
    with pytest.raises(ModelFormatError, match=r"signature\.json says that the input is \(3, 9, 9\)"):
        load(open_model_folder(folder.path), "auto", tmp_path / "cache")


def test_a_serving_installation_names_the_command_that_converts_a_model(net: Path, tmp_path: Path) -> None:
    shutil.rmtree(net / "converted")
    code = f"""
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("mxnet", "onnx") else found(name, *rest)
from pathlib import Path
from app.engines.loader import load
from app.formats.folder import open_model_folder
load(open_model_folder(Path({str(net)!r})), "auto", Path({str(tmp_path / "cache")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert "onnx is not installed" in last and "make install" in last
    assert "bin/dimple models convert net" in last
