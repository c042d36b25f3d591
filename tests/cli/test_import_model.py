from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import Result
from flask import Flask
from onnx import TensorProto, helper, numpy_helper

from app import create_app
from app.cli.import_model import import_command
from app.cli.predict import predict
from app.formats.signature import read_signature
from app.settings import Settings
from tests.cli.test_predict import ASTRONAUT
from tests.engines.networks import mx, random_params
from tests.formats.archive.archives import read_tree
from tests.rounding import rounding

TESTDATA = Path(__file__).parent.parent / "testdata"
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    (tmp_path / "app" / "models").mkdir(parents=True)
    place = tmp_path / "app"
    return create_app(
        Settings(models_dir=place / "models", uploads_dir=place / "up", instance_dir=place / "instance", engine="mxnet")
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "app" / "models"


def run(app: Flask, *arguments: object, command: click.Command = import_command) -> Result:
    return app.test_cli_runner().invoke(command, [str(argument) for argument in arguments])


def summary_of(done: Result) -> dict[str, str]:
    assert done.exit_code == 0, done.output
    lines = done.stdout.split("\n\n")[0].splitlines()
    return {line[:10].strip(): line[10:] for line in lines}


def network(head: str = "SoftmaxOutput", label: str = "prob_label", size: int = 16) -> Any:
    """Return a network whose weights fix the size of its pictures."""
    maps = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="conv")
    logits = mx.sym.FullyConnected(mx.sym.Flatten(maps), num_hidden=5, name="fc")
    return mx.sym.SoftmaxOutput(logits, mx.sym.var(label), name="prob") if head else logits


def checkpoint(folder: Path, symbol: Any, size: int = 32) -> None:
    from app.formats.mxnet_params import write_params

    folder.mkdir(exist_ok=True)
    symbol.save(str(folder / "net-symbol.json"))
    write_params(folder / "net-0007.params", random_params(symbol, shape=(0, 3, size, size)))


def test_a_checkpoint_becomes_a_model_folder_with_its_bytes(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network())
    summary = summary_of(
        run(app, tmp_path / "in" / "net-symbol.json", tmp_path / "in" / "net-0007.params", "--name", "five")
    )
    assert summary["input"].startswith("data (any, 3, 32, 32), NCHW")
    assert summary["output"].startswith("5 classes, activation none")
    assert summary["labels"].startswith("0; 1; 2; …")
    made = read_tree(models / "five")
    assert made["five-symbol.json"] == (tmp_path / "in" / "net-symbol.json").read_bytes()
    assert made["five-0000.params"] == (tmp_path / "in" / "net-0007.params").read_bytes()
    assert made["synset.txt"].decode().split() == ["0", "1", "2", "3", "4"]
    assert json.loads(made["MAR-INF/MANIFEST.json"])["model"]["modelName"] == "five"
    assert sorted(path.name for path in models.iterdir()) == ["five"]
    done = run(app, "five", ASTRONAUT, command=predict)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("given", ["net-symbol.json", "net-0007.params", "."])
def test_one_file_of_a_checkpoint_finds_the_other(app: Flask, tmp_path: Path, models: Path, given: str) -> None:
    checkpoint(tmp_path / "in", network())
    summary_of(run(app, tmp_path / "in" / given))
    assert (models / "net" / "net-0000.params").is_file()


def test_every_guess_can_be_overridden(app: Flask, tmp_path: Path, models: Path) -> None:
    maps = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="conv")
    pooled = mx.sym.Pooling(maps, global_pool=True, kernel=(1, 1), pool_type="avg")
    checkpoint(tmp_path / "in", mx.sym.FullyConnected(mx.sym.Flatten(pooled), num_hidden=2, name="fc"))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    done = run(
        app, tmp_path / "in", "--name", "pets", "--input-size", "40x24", "--color", "bgr", "--resize", "crop",
        "--mean", "1,2,3", "--std", "2", "--scale", "1/255", "--activation", "sigmoid",
        "--labels", tmp_path / "names.txt",
    )  # fmt: skip
    assert summary_of(done)["labels"] == "cat; dog  (listed in names.txt)"
    found = read_signature(models / "pets" / "signature.json")
    assert found.inputs[0].shape == (0, 3, 40, 24)
    given = found.preprocess
    assert (given.color, given.resize, given.mean, given.std) == ("bgr", "crop", (1.0, 2.0, 3.0), (2.0,))
    assert given.scale == pytest.approx(1 / 255)
    assert found.postprocess.activation == "sigmoid"
    assert (models / "pets" / "synset.txt").read_text() == "cat\ndog\n"


def test_logits_get_a_softmax(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network(head=""))
    assert "activation softmax" in summary_of(run(app, tmp_path / "in"))["output"]
    assert read_signature(models / "net" / "signature.json").postprocess.activation == "softmax"


def test_a_size_that_contradicts_the_weights_is_refused_with_the_layer(
    app: Flask, tmp_path: Path, models: Path
) -> None:
    checkpoint(tmp_path / "in", network())
    done = run(app, tmp_path / "in", "--input-size", "64")
    assert done.exit_code == 1
    assert "net-symbol.json does not take pictures of 64 x 64" in done.output and "fc takes" in done.output
    assert not list(models.iterdir())


def test_a_wrong_number_of_labels_leaves_nothing_behind(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network())
    (tmp_path / "in" / "labels.txt").write_text("a\nb\n")
    done = run(app, tmp_path / "in")
    assert (done.exit_code, "2 labels, the network has 5 classes" in done.output) == (1, True)
    assert not list(models.iterdir())


def test_an_existing_model_is_replaced_only_with_force(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network())
    summary_of(run(app, tmp_path / "in"))
    (models / "net" / "mine.txt").write_text("")
    refused = run(app, tmp_path / "in")
    assert (refused.exit_code, "--force" in refused.output) == (1, True)
    assert (models / "net" / "mine.txt").exists()
    summary_of(run(app, tmp_path / "in", "--force"))
    assert not (models / "net" / "mine.txt").exists()


def test_the_model_folder_can_be_written_elsewhere(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network())
    summary_of(run(app, tmp_path / "in", "--to", tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "elsewhere-symbol.json").is_file()
    assert not list(models.iterdir())


def test_a_missing_parameter_is_named_with_its_operation_and_file(app: Flask, tmp_path: Path, models: Path) -> None:
    from app.formats.mxnet_params import read_params, write_params

    checkpoint(tmp_path / "in", network())
    params = tmp_path / "in" / "net-0007.params"
    write_params(params, {name: array for name, array in read_params(params).items() if name != "arg:fc_weight"})
    done = run(app, tmp_path / "in")
    assert done.exit_code == 1
    assert "net-0007.params does not hold fc_weight, which FullyConnected fc of net-symbol.json needs" in done.output
    assert not list(models.iterdir())


def test_truncated_parameters_are_refused(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network())
    params = tmp_path / "in" / "net-0007.params"
    params.write_bytes(params.read_bytes()[:-100])
    done = run(app, tmp_path / "in")
    assert (done.exit_code, "net-0007.params cannot be read as MXNet parameters: it ends within" in done.output) == (
        1,
        True,
    )
    assert not list(models.iterdir())


def test_an_operation_that_does_not_exist_is_named(app: Flask, tmp_path: Path, models: Path) -> None:
    checkpoint(tmp_path / "in", network())
    symbol = tmp_path / "in" / "net-symbol.json"
    symbol.write_text(symbol.read_text().replace('"op": "Flatten"', '"op": "Wobble"'))
    done = run(app, tmp_path / "in")
    assert done.exit_code == 1
    named = next(node["name"] for node in json.loads(symbol.read_text())["nodes"] if node["op"] == "Wobble")
    assert f"{symbol} does not tell the size of its pictures: {named} is an operation Wobble" in done.output


def gluon(folder: Path) -> Any:
    net = mx.gluon.nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(mx.gluon.nn.Conv2D(4, 3, 2, 1, in_channels=3), mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(3))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    picture = mx.nd.array(np.random.default_rng(0).uniform(size=(1, 3, 32, 32)))
    expected = net(picture).softmax().asnumpy()
    folder.mkdir()
    return net, picture.asnumpy(), expected


def test_an_export_of_gluon_answers_as_gluon_does(app: Flask, tmp_path: Path, models: Path) -> None:
    net, picture, expected = gluon(tmp_path / "in")
    net.export(str(tmp_path / "in" / "net"), epoch=12)
    summary = summary_of(run(app, tmp_path / "in"))
    assert "exported by Gluon" in summary["pixels"] and "activation softmax" in summary["output"]
    assert _answer(models / "net", picture) == pytest.approx(expected, abs=rounding(layers=4))


def test_parameters_that_gluon_saved_without_a_graph_ask_for_an_export(app: Flask, tmp_path: Path) -> None:
    net, _picture, _expected = gluon(tmp_path / "in")
    net.save_parameters(str(tmp_path / "in" / "net.params"))
    done = run(app, tmp_path / "in")
    assert done.exit_code == 1
    assert "net.params" in done.output and "0.bias" in done.output and "export(" in done.output


def test_parameters_without_names_beside_a_graph_with_names_are_refused(app: Flask, tmp_path: Path) -> None:
    net, _picture, _expected = gluon(tmp_path / "in")
    net.export(str(tmp_path / "in" / "net"))
    net.save_parameters(str(tmp_path / "in" / "net-0000.params"))
    done = run(app, tmp_path / "in")
    assert (done.exit_code, "save_parameters" in done.output) == (1, True)


@pytest.mark.parametrize("name", ["keras_sequential", "keras1_tf_sequential", "tf_keras_newer", "keras1_th_graph"])
def test_an_h5_becomes_a_model_that_answers_as_its_keras_did(
    app: Flask, tmp_path: Path, models: Path, name: str
) -> None:
    summary_of(run(app, TESTDATA / f"{name}.h5", "--name", "net"))
    facts = json.loads((TESTDATA / f"{name}.json").read_text())
    found = _answer(models / "net", np.array(facts["pictures"], np.float32))
    assert found == pytest.approx(_rows(np.array(facts["answers"])), abs=rounding(layers=10))
    assert (models / "net" / "net.h5").read_bytes() == (TESTDATA / f"{name}.h5").read_bytes()


def test_weights_of_keras_take_the_architecture_that_is_given(app: Flask, tmp_path: Path, models: Path) -> None:
    for name in ("keras1_tf_sequential_weights.h5", "keras1_tf_sequential_weights_model.json"):
        shutil.copy(TESTDATA / name, tmp_path / name.replace("weights_model", "arch"))
    refused = run(app, tmp_path / "keras1_tf_sequential_weights.h5")
    assert (refused.exit_code, "model.to_json()" in refused.output) == (1, True)
    summary_of(run(app, tmp_path / "keras1_tf_sequential_weights.h5", tmp_path / "keras1_tf_sequential_arch.json"))
    facts = json.loads((TESTDATA / "keras1_tf_sequential.json").read_text())
    found = _answer(models / "keras1_tf_sequential", np.array(facts["pictures"], np.float32))
    assert found == pytest.approx(np.array(facts["answers"]), abs=rounding(layers=10))


def test_the_backend_of_a_keras_1_file_is_guessed_and_can_be_overridden(
    app: Flask, tmp_path: Path, models: Path
) -> None:
    file = TESTDATA / "keras1_th_sequential.h5"
    assert "theano" in summary_of(run(app, file, "--name", "net"))["backend"]
    summary = summary_of(run(app, file, "--name", "other", "--keras-backend", "tensorflow"))
    assert summary["backend"] == "tensorflow  (you state it)"
    facts = json.loads((TESTDATA / "keras1_th_sequential.json").read_text())
    pictures, answers = np.array(facts["pictures"], np.float32), np.array(facts["answers"])
    assert _answer(models / "net", pictures) == pytest.approx(answers, abs=rounding(layers=10))
    assert np.abs(_answer(models / "other", pictures) - answers).max() > 1e-3


def test_a_lambda_layer_is_refused_by_its_name(app: Flask, models: Path) -> None:
    done = run(app, TESTDATA / "keras_with_lambda.h5")
    assert (done.exit_code, "keras_with_lambda.h5 cannot be served: its layer lambda" in done.output) == (1, True)
    assert not list(models.iterdir())


def write_onnx(path: Path, external: str = "") -> tuple[Any, Any]:
    """Write a convolution, an average, a layer and softmax; return the two weights."""
    draw = np.random.default_rng(2)
    kernel, weight = draw.normal(size=(4, 3, 1, 1)), draw.normal(size=(4, 6))
    learned = {"kernel": kernel.astype(np.float32), "weight": weight.astype(np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "kernel"], ["maps"]),
            helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["row"]),
            helper.make_node("Gemm", ["row", "weight"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["answer"], axis=1),
        ],
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 24, 32])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 6])],
        [numpy_helper.from_array(array, name) for name, array in learned.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 6
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, str(path))
    return learned["kernel"], learned["weight"]


@pytest.mark.parametrize("external", ["", "weights.bin"])
def test_an_onnx_file_becomes_a_model_that_answers_by_the_formula(
    app: Flask, tmp_path: Path, models: Path, external: str
) -> None:
    kernel, weight = write_onnx(tmp_path / "net.onnx", external)
    summary = summary_of(run(app, tmp_path / "net.onnx"))
    assert summary["input"].startswith("pixels (any, 3, 24, 32), NCHW") and "6 classes" in summary["output"]
    assert not (models / "net" / "weights.bin").exists()
    pictures = np.random.default_rng(3).normal(size=(2, 3, 24, 32)).astype(np.float32)
    logits = np.exp(np.einsum("nchw,oc->no", pictures, kernel[:, :, 0, 0]) / (24 * 32) @ weight)
    expected = logits / logits.sum(axis=1, keepdims=True)
    assert _answer(models / "net", pictures, tmp_path / "cache") == pytest.approx(expected, abs=rounding(layers=4))


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/passwd", "sub/weights.bin"])
def test_an_onnx_file_with_weights_outside_its_folder_is_refused(
    app: Flask, tmp_path: Path, models: Path, place: str
) -> None:
    write_onnx(tmp_path / "net.onnx", "weights.bin")
    model = onnx.load(str(tmp_path / "net.onnx"), load_external_data=False)
    model.graph.initializer[1].external_data[0].value = place
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    done = run(app, tmp_path / "net.onnx")
    assert (done.exit_code, f"net.onnx keeps the weights weight in '{place}'" in done.output) == (1, True)
    assert not list(models.iterdir())


@pytest.mark.parametrize("keep", [0, 0.5, 0.98])
def test_a_truncated_onnx_file_is_refused(app: Flask, tmp_path: Path, models: Path, keep: float) -> None:
    write_onnx(tmp_path / "net.onnx")
    whole = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(whole[: int(len(whole) * keep)])
    done = run(app, tmp_path / "net.onnx")
    assert (done.exit_code, "net.onnx" in done.output) == (1, True)
    assert not list(models.iterdir())


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"net.bin": b""}, "net.bin is none of the files"),
        ({"net.mar": b""}, "dimple models unpack"),
        ({"synset.txt": b"a"}, "there are no weights"),
        ({"a.h5": b"", "b.onnx": b""}, "a.h5, b.onnx are several models"),
        ({"a.h5": b"", "b.h5": b""}, "a.h5, b.h5"),
    ],
)
def test_files_that_form_no_model_are_refused(
    app: Flask, tmp_path: Path, models: Path, files: dict[str, bytes], named: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    done = run(app, *(tmp_path / name for name in files))
    assert (done.exit_code, named in done.output) == (1, True), done.output
    assert not list(models.iterdir())


@pytest.mark.parametrize(
    "arguments", [("--input-size", "0,3"), ("--mean", "a"), ("--scale", "1/0"), ("--std", "1,0"), ("--name", "../x")]
)
def test_invalid_option_values_are_refused(app: Flask, tmp_path: Path, models: Path, arguments: Any) -> None:
    checkpoint(tmp_path / "in", network())
    assert run(app, tmp_path / "in", *arguments).exit_code in (1, 2)
    assert not list(models.iterdir())


def test_published_weights_classify_the_kitten(app: Flask, models: Path) -> None:
    if not (SHARED / "squeezenet_v1.0").is_dir():
        pytest.skip("the published checkpoint is not beside this checkout (../shared/data)")
    summary = summary_of(run(app, SHARED / "squeezenet_v1.0", "--name", "squeezenet"))
    assert summary["input"].startswith("data (any, 3, 227, 227)")
    done = run(app, "squeezenet", SHARED / "images" / "kitten.jpg", command=predict)
    assert "tabby" in done.output


def _answer(folder: Path, pictures: Any, cache_dir: Path | None = None) -> Any:
    """Return the probabilities that a model folder gives."""
    from app.formats.folder import open_model_folder
    from app.serving.model import open_model

    return open_model(open_model_folder(folder), "mxnet", cache_dir=cache_dir).probabilities(pictures)


def _rows(answers: Any) -> Any:
    """Return what Keras answered, as probabilities of all classes: one sigmoid stands for two."""
    return np.hstack([1 - answers, answers]) if answers.shape[1] == 1 else answers
