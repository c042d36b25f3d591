"""Exports that are imported again: the same weights to the bit, the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import Result
from flask import Flask
from onnx import numpy_helper

from app import create_app
from app.cli.archive import unpack_command
from app.cli.export import export
from app.cli.import_model import import_command
from app.formats.folder import open_model_folder
from app.formats.mxnet_params import read_params
from app.formats.signature import read_signature, write_signature
from app.serving.model import open_model
from app.settings import Settings
from app.types import Postprocess, Preprocess, Signature, TensorSpec
from tests.engines.networks import mx, random_params
from tests.formats.archive.archives import put
from tests.rounding import rounding

TESTDATA = Path(__file__).parent.parent / "testdata"
PICTURES = np.random.default_rng(4).uniform(0, 1, (3, 3, 16, 20)).astype(np.float32)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "app" / "models"


@pytest.fixture
def app(tmp_path: Path, models: Path) -> Flask:
    models.mkdir(parents=True)
    place = tmp_path / "app"
    settings = Settings(models_dir=models, uploads_dir=place / "up", instance_dir=place / "instance", engine="mxnet")
    return create_app(settings)


@pytest.fixture
def net(models: Path) -> Path:
    """Return a model with everything that could get lost: an epoch, labels, preprocessing, auxiliary states, logits."""
    from app.formats.mxnet_params import write_params

    folder = models / "net"
    folder.mkdir(parents=True, exist_ok=True)
    maps = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="conv")
    maps = mx.sym.Activation(mx.sym.BatchNorm(maps, fix_gamma=False, name="bn"), act_type="relu")
    logits = mx.sym.FullyConnected(mx.sym.Flatten(maps), num_hidden=2, name="fc")
    logits.save(str(folder / "pre-symbol.json"))
    write_params(folder / "pre-0003.params", random_params(logits, shape=(0, 3, 16, 20)))
    signature = Signature(
        (TensorSpec("data", (0, 3, 16, 20)),),
        (TensorSpec("fc", (0, 2)),),
        Preprocess(color="bgr", mean=(0.1, 0.2, 0.3), std=(0.5,), scale=1 / 255, antialias=True),
        Postprocess(activation="softmax", top=1),
    )
    write_signature(signature, folder / "signature.json")
    (folder / "synset.txt").write_text("chat\nchien échaudé\n")
    return folder


def run(app: Flask, command: click.Command, *arguments: object) -> Result:
    done = app.test_cli_runner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


def answers(folder: Path, pictures: Any = PICTURES, engine: str = "mxnet", cache_dir: Path | None = None) -> Any:
    model = open_model(open_model_folder(folder), engine, cache_dir=cache_dir)
    return model.probabilities(pictures), model.labels


def test_an_mxnet_round_trip_changes_no_byte_and_no_answer(app: Flask, net: Path, models: Path, tmp_path: Path) -> None:
    run(app, export, "net", "--to", "mxnet", "--output", tmp_path / "out")
    assert (tmp_path / "out" / "net-0000.params").read_bytes() == (net / "pre-0003.params").read_bytes()
    assert (tmp_path / "out" / "net-symbol.json").read_bytes() == (net / "pre-symbol.json").read_bytes()
    run(app, import_command, tmp_path / "out", "--name", "again")
    assert read_signature(models / "again" / "signature.json") == read_signature(net / "signature.json")
    (before, labels), (after, same) = answers(net), answers(models / "again")
    assert np.array_equal(before, after) and labels == same == ("chat", "chien échaudé")


def test_an_archive_round_trip_changes_no_byte_and_no_answer(
    app: Flask, net: Path, models: Path, tmp_path: Path
) -> None:
    run(app, export, "net", "--to", "mar", "--output", tmp_path / "net.mar")
    run(app, unpack_command, tmp_path / "net.mar", "--to", tmp_path / "again")
    assert (tmp_path / "again" / "net-0000.params").read_bytes() == (net / "pre-0003.params").read_bytes()
    manifest = json.loads((tmp_path / "again" / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["handler"] == "mxnet_vision_service:handle"
    (before, labels), (after, same) = answers(net), answers(tmp_path / "again")
    assert np.array_equal(before, after) and labels == same


def test_an_onnx_round_trip_changes_no_weight_and_no_answer(
    app: Flask, net: Path, models: Path, tmp_path: Path
) -> None:
    done = run(app, export, "net", "--to", "onnx", "--output", tmp_path / "net.onnx")
    assert "differ from the model's own by" in done.stdout
    written = {
        item.name: numpy_helper.to_array(item) for item in onnx.load(str(tmp_path / "net.onnx")).graph.initializer
    }
    learned = read_params(net / "pre-0003.params")
    assert len(learned) == 8
    for name, array in learned.items():
        assert np.array_equal(written[name.partition(":")[2]], array), name
    run(app, import_command, tmp_path / "net.onnx", "--name", "again")
    found, own = read_signature(models / "again" / "signature.json"), read_signature(net / "signature.json")
    assert (found.inputs, found.preprocess, found.postprocess) == (own.inputs, own.preprocess, own.postprocess)
    (before, labels), (after, same) = answers(net), answers(models / "again", cache_dir=tmp_path / "cache")
    assert after == pytest.approx(before, abs=rounding(layers=4)) and labels == same
    run(app, export, "again", "--to", "onnx", "--output", tmp_path / "twice.onnx")
    assert (tmp_path / "twice.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_an_onnx_file_answers_in_onnx_runtime_as_the_model_does(app: Flask, net: Path, tmp_path: Path) -> None:
    import onnxruntime

    run(app, export, "net", "--to", "onnx", "--output", tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"data": PICTURES[n : n + 1]})[0] for n in range(3)])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert odds / odds.sum(axis=1, keepdims=True) == pytest.approx(answers(net)[0], abs=rounding(layers=4))


@pytest.mark.parametrize("name", ["keras_sequential", "keras1_th_sequential", "tf_keras_newer"])
def test_an_h5_becomes_a_checkpoint_that_answers_as_its_keras_did(
    app: Flask, models: Path, tmp_path: Path, name: str
) -> None:
    run(app, import_command, TESTDATA / f"{name}.h5", "--name", "net")
    run(app, export, "net", "--to", "mxnet", "--output", tmp_path / "out")
    run(app, import_command, tmp_path / "out", "--name", "again")
    assert open_model_folder(models / "again").h5 is None
    facts = json.loads((TESTDATA / f"{name}.json").read_text())
    found, _labels = answers(models / "again", np.array(facts["pictures"], np.float32))
    assert found == pytest.approx(np.array(facts["answers"]), abs=rounding(layers=10))


def test_the_weights_of_an_h5_are_those_of_its_checkpoint(app: Flask, models: Path, tmp_path: Path) -> None:
    from app.formats.keras_file import read_h5

    run(app, import_command, TESTDATA / "keras_sequential.h5", "--name", "net")
    run(app, export, "net", "--to", "mxnet", "--output", tmp_path / "out")
    written = list(read_params(tmp_path / "out" / "net-0000.params").values())
    for _name, arrays in read_h5(TESTDATA / "keras_sequential.h5").weights:
        for array in arrays:
            same = [item for item in written if item.size == array.size]
            assert any(np.array_equal(np.sort(item, None), np.sort(array, None)) for item in same)


def test_an_archive_with_code_of_its_own_keeps_it(app: Flask, net: Path, tmp_path: Path) -> None:
    manifest = {"model": {"modelName": "net", "handler": "mine:handle"}}
    put(net, {"MAR-INF/MANIFEST.json": json.dumps(manifest), "mine.py": "def handle(data, context): return data"})
    run(app, export, "net", "--to", "mar", "--output", tmp_path)
    made = Path(run(app, unpack_command, tmp_path / "net.mar", "--to", tmp_path / "again").stdout.strip())
    assert (made / "mine.py").is_file() and (made / "pre-0003.params").is_file()
    assert json.loads((made / "MAR-INF" / "MANIFEST.json").read_text())["model"]["handler"] == "mine:handle"


def test_an_existing_file_is_replaced_only_with_force(app: Flask, net: Path, tmp_path: Path) -> None:
    (tmp_path / "net.mar").write_text("mine")
    done = app.test_cli_runner().invoke(export, ["net", "--to", "mar", "--output", str(tmp_path / "net.mar")])
    assert (done.exit_code, "--force" in done.output) == (1, True)
    assert (tmp_path / "net.mar").read_text() == "mine"
    run(app, export, "net", "--to", "mar", "--output", tmp_path / "net.mar", "--force")
    assert (tmp_path / "net.mar").read_bytes()[:2] == b"PK"


def test_an_onnx_model_that_mxnet_cannot_import_is_not_turned_into_a_checkpoint(
    app: Flask, net: Path, models: Path, tmp_path: Path
) -> None:
    run(app, export, "net", "--to", "onnx", "--output", tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    model.graph.node[-1].op_type = "Celu"  # which MXNet's importer does not know
    onnx.save(model, str(tmp_path / "net.onnx"))
    run(app, import_command, tmp_path / "net.onnx", "--name", "again")
    done = app.test_cli_runner().invoke(export, ["again", "--to", "mxnet", "--output", str(tmp_path / "out")])
    assert (done.exit_code, "cannot be turned into an MXNet checkpoint: " in done.output) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "net.onnx"]


def test_an_unknown_model_is_an_error_that_lists_the_existing_models(app: Flask, net: Path) -> None:
    done = app.test_cli_runner().invoke(export, ["nett", "--to", "mar"])
    assert (done.exit_code, "There are: net" in done.output) == (1, True)


def test_openvinos_format_is_imported_as_the_same_model(app: Flask, net: Path, models: Path, tmp_path: Path) -> None:
    done = app.test_cli_runner().invoke(export, ["net", "--to", "openvino", "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "at most from those of mxnet" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "net.xml",
        "net.bin",
        "signature.json",
        "synset.txt",
    }
    again = app.test_cli_runner().invoke(import_command, [str(tmp_path / "out"), "--name", "again"])
    assert again.exit_code == 0, again.output
    before = open_model(open_model_folder(net), "mxnet", cache_dir=None)
    after = open_model(open_model_folder(models / "again"), "auto", cache_dir=tmp_path / "cache")
    assert (after.labels, after.preprocess, after.postprocess) == (before.labels, before.preprocess, before.postprocess)
    rows = PICTURES.reshape(3, *before.input.shape[1:])
    assert np.abs(after.probabilities(rows) - before.probabilities(rows)).max() < 1e-5


def test_an_old_keras_file_becomes_a_keras_3_file_that_imports_as_the_same_model(
    app: Flask, models: Path, tmp_path: Path
) -> None:
    put(models / "old", {"old.h5": (TESTDATA / "tf215_nested_once.h5").read_bytes()})
    done = run(app, export, "old", "--to", "keras", "--output", tmp_path / "new.keras")
    assert "read again, its probabilities differ from the model's own by" in done.stdout
    run(app, import_command, tmp_path / "new.keras", "--name", "again")
    assert (models / "again" / "again.keras").read_bytes() == (tmp_path / "new.keras").read_bytes()
    run(app, export, "again", "--to", "keras", "--output", tmp_path / "twice.keras")  # handed back
    assert (tmp_path / "twice.keras").read_bytes() == (tmp_path / "new.keras").read_bytes()


def test_a_keras_1_theano_file_becomes_a_keras_3_file_with_the_same_outputs(
    app: Flask, models: Path, tmp_path: Path
) -> None:
    put(models / "theano", {"theano.h5": (TESTDATA / "keras1_th_sequential.h5").read_bytes()})
    run(app, export, "theano", "--to", "keras", "--output", tmp_path / "new.keras")
    run(app, import_command, tmp_path / "new.keras", "--name", "again")
    facts = json.loads((TESTDATA / "keras1_th_sequential.json").read_text())
    found, _labels = answers(models / "again", np.array(facts["pictures"], np.float32))
    assert found == pytest.approx(np.array(facts["answers"]), abs=rounding(layers=10))


def failed(app: Flask, *arguments: object) -> str:
    done = app.test_cli_runner().invoke(export, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    return done.output


def test_an_unsupported_export_is_refused_with_an_alternative(
    app: Flask, net: Path, models: Path, tmp_path: Path
) -> None:
    put(models / "functions", {"functions.h5": (TESTDATA / "tf215_operations.h5").read_bytes()})
    refused = failed(app, "functions", "--to", "keras", "--output", tmp_path / "a")
    assert "of TensorFlow, which is not written" in refused and "--to onnx" in refused
    assert "pre-0003.params is not a file of Keras" in failed(app, "net", "--to", "keras", "--output", tmp_path / "a")
    assert "Add --with-tensorflow" in failed(app, "net", "--to", "tflite", "--output", tmp_path / "a")
    assert not (tmp_path / "a").exists()
