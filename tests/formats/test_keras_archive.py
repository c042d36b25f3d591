"""The ``.keras`` format: the parts that are read, and the effects of an untrusted file on a reader."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.errors import ModelFormatError
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.keras_archive import snake_case
from app.formats.keras_file import read_h5
from app.settings import ROOT

TESTDATA = ROOT / "tests" / "testdata"
KERNEL, BIAS = np.arange(6, dtype=np.float32).reshape(3, 2), np.float32([7, 8])


def layer(kind: str, name: str, module: str = "keras.layers", **options: Any) -> dict[str, Any]:
    config = {"name": name, "trainable": True, **options}
    return {"module": module, "class_name": kind, "config": config, "registered_name": None, "name": name}


INPUT = {"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 3]}}
DENSE = layer("Dense", "d", units=2)
INT8 = {"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}


def config_of(*layers: Any) -> dict[str, Any]:
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [INPUT, *layers]}}


def weights(**arrays: Any) -> bytes:
    """Return the file of weights; each keyword is a path, with two underscores for a slash."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return content.getvalue()


DENSE_WEIGHTS = weights(layers__dense__vars__0=KERNEL, layers__dense__vars__1=BIAS)


def archive(path: Path, entries: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in entries.items():
            made.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


def entries(*layers: Any, **others: Any) -> dict[str, Any]:
    listed = {"config.json": config_of(*(layers or (DENSE,))), "model.weights.h5": DENSE_WEIGHTS}
    return {**listed, "metadata.json": {"keras_version": "3.4.0"}, **others}


def refused(path: Path) -> str:
    with pytest.raises(ModelFormatError) as raised:
        read_h5(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_arrays_are_read_unchanged_under_any_file_name(tmp_path: Path, name: str, compression: int) -> None:
    model = read_h5(archive(tmp_path / name, entries(), compression))
    ((layer_name, (kernel, bias)),) = model.weights
    assert (layer_name, kernel.tolist(), bias.tolist()) == ("d", KERNEL.tolist(), BIAS.tolist())
    assert (model.keras_version, model.backend) == ("3.4.0", "tensorflow")


def test_weights_alone_are_read_with_the_architecture_beside_them(tmp_path: Path) -> None:
    (tmp_path / "model.weights.h5").write_bytes(DENSE_WEIGHTS)
    (tmp_path / "config.json").write_text(json.dumps(config_of(DENSE)))
    assert np.array_equal(read_h5(tmp_path / "model.weights.h5").weights[0][1][0], KERNEL)


@pytest.mark.parametrize(
    ("name", "group"),
    [  # groups in files that Keras 3.0 to 3.15 wrote
        ("Conv2D", "conv2d"),
        ("DepthwiseConv2D", "depthwise_conv2d"),
        ("Conv2DTranspose", "conv2d_transpose"),
        ("PReLU", "p_re_lu"),
        ("BatchNormalization", "batch_normalization"),
        ("LSTM", "lstm"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
    ],
)
def test_groups_are_named_as_by_keras(name: str, group: str) -> None:
    assert snake_case(name) == group


def test_a_second_layer_of_a_class_has_a_number(tmp_path: Path) -> None:
    stored = weights(
        layers__dense__vars__0=KERNEL,
        layers__dense__vars__1=BIAS,
        layers__dense_1__vars__0=np.eye(2),
        layers__dense_1__vars__1=BIAS + 1,
    )
    path = archive(tmp_path / "a.keras", entries(DENSE, layer("Dense", "a", units=2), **{"model.weights.h5": stored}))
    assert [(name, arrays[1].tolist()) for name, arrays in read_h5(path).weights] == [("d", [7, 8]), ("a", [8, 9])]


def linked() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("layers/dense/vars")["0"] = h5py.ExternalLink("other.h5", "secret")
        file["layers/dense/vars"]["1"] = BIAS
    return content.getvalue()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"model.weights.h5": weights(layers__dense__vars__0=KERNEL)},
            "d has 2 arrays of weights, and the file holds 1",
        ),
        ({"model.weights.h5": weights(other=KERNEL)}, "it has no layers/dense/vars"),
        ({"model.weights.h5": linked()}, "is a link to 'secret'"),
        ({"model.weights.h5": b"no HDF5"}, "does not begin as HDF5 files do"),
        ({"config.json": b"{"}, "config.json is not JSON"),
        ({"config.json": {"class_name": "Sequential", "config": 1}}, "describes no layers"),
        ({"config.json": {"class_name": "Own", "module": "own", "config": {"a": 1}}}, "describes no layers"),
        ({"config.json": [1]}, "does not describe layers as Keras 3 does"),
        ({"config.json": b" " * (64 * 2**20 + 1)}, "unpack to more than 100 times as many"),
        ({"metadata.json": b" " * 2**17}, "metadata.json is longer than 65,536 bytes"),
    ],
)
def test_a_damaged_part_is_refused_by_its_name(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    assert message in refused(archive(tmp_path / "a.keras", {**entries(), **changed}))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (layer("Lambda", "evil"), "evil is a Lambda layer"),
        (layer("TimeDistributed", "t", layer=layer("Lambda", "evil")), "evil is a Lambda layer"),
        (layer("Fft", "f", module="keras.src.ops.math"), "f is the operation Fft of Keras 3"),
        (layer("Dense", "q", units=2, dtype=INT8), "q is quantized (int8_from_float32)"),
    ],
)
def test_a_layer_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path, bad: Any, message: str) -> None:
    assert message in refused(archive(tmp_path / "a.keras", entries(bad)))


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_missing_part_is_named(tmp_path: Path, missing: str) -> None:
    listed = entries()
    del listed[missing]
    assert f"a zip without {missing}" in refused(archive(tmp_path / "a.keras", listed))


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", entries())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as made:
        made.writestr("config.json", "{}")
    assert "two entries config.json" in refused(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    whole = archive(tmp_path / "a.keras", entries()).read_bytes()
    (tmp_path / "b.keras").write_bytes(whole[: int(len(whole) * share)])
    assert "damaged" in refused(tmp_path / "b.keras")


def test_entries_that_keras_does_not_write_are_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", {**entries(), "../evil": b"x", "assets/vocabulary.txt": b"x"})
    assert read_h5(path).weights[0][0] == "d"
    assert [file.name for file in tmp_path.iterdir()] == ["a.keras"]


def test_a_lambda_that_keras_3_saved_is_refused() -> None:
    assert "lambda is a Lambda layer" in refused(TESTDATA / "keras315_with_lambda.keras")


def test_the_preprocessing_in_a_graph_of_keras_3_is_recognised() -> None:
    found = infer_signature(ModelFiles(h5=TESTDATA / "keras315_operations.keras")).signature.preprocess
    assert (found.color, found.scale, found.mean, found.std) == ("rgb", 1.0, (0.0,), (1.0,))  # 0-255
