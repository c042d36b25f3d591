"""Files that other programs wrote (tests/testdata/makers), against what the program that wrote each answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from app import create_app
from app.cli.rescue import rescue
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.serving.model import open_model
from app.settings import Settings
from tests.kinds.table import Table
from tests.kinds.test_kinds import (
    DENSE,
    KERNEL,
    ONNX,
    PICTURES,
    SIDE,
    answers,
    by_onnxruntime,
    difference,
    torch,
    write_onnx,
)

MAKERS = Path(__file__).parent.parent / "testdata" / "makers"
NAMES = sorted(path.stem for path in MAKERS.glob("*.json") if not path.stem.endswith("-symbol"))
LIMITS = dict.fromkeys(("dynamic_range", "dynamic", "qdq", "qoperator"), 0.02)
"""Where the largest difference of a probability may be more than 1e-5: the program rounds maps to 8 bits."""
SLOW = {"mxnet131", "gluon131", "torch_script", "tf2onnx_first"}
"""Files that are read as another one is."""


def files_of(name: str) -> list[Path]:
    return [
        path for path in MAKERS.iterdir() if path.name.startswith((f"{name}.", f"{name}-")) and path.suffix != ".py"
    ]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES]
)
def test_a_file_answers_as_the_program_that_wrote_it(tmp_path: Path, table: Table, name: str) -> None:
    facts = json.loads((MAKERS / f"{name}.json").read_text())
    folder = tmp_path / "net"
    folder.mkdir()
    for path in files_of(name):
        if path.name != f"{name}.json":
            shutil.copyfile(path, folder / path.name)
    model = open_model(open_model_folder(folder), "auto", cache_dir=tmp_path / "cache")
    worst = difference(answers(model, np.array(facts["pictures"], np.uint8)), np.array(facts["answers"]))
    assert worst < LIMITS.get(name, 1e-5)
    table.add(facts["kind"], facts["made_by"], "the program that wrote it", worst)


def test_a_zipmap_of_scikit_learn_is_refused_by_its_input(tmp_path: Path, table: Table) -> None:
    (tmp_path / "net").mkdir()
    shutil.copyfile(MAKERS / "sklearn_zipmap.onnx", tmp_path / "net" / "net.onnx")
    with pytest.raises(ModelFormatError, match=r"432") as refused:
        open_model(open_model_folder(tmp_path / "net"), "auto", cache_dir=tmp_path / "cache")
    assert len(str(refused.value).splitlines()) == 1
    table.add("ONNX: of scikit-learn, with ZipMap", "skl2onnx 1.20.0", "", "refused, with the shape")


OPSETS = [7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24]
"""What :data:`tests.kinds.test_kinds.ONNX` has not; 13 and 22 are there."""


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
def test_an_onnx_file_of_every_opset_answers_as_onnx_runtime(tmp_path: Path, table: Table, opset: int) -> None:
    case = next(case for case in ONNX if case.kind == "logits")
    folder = tmp_path / "net"
    folder.mkdir()
    write_onnx(folder / "net.onnx", case)
    document = onnx.load(str(folder / "net.onnx"))
    document.opset_import[0].version = opset
    onnx.save(document, str(folder / "net.onnx"))
    model = open_model(open_model_folder(folder), "auto", cache_dir=tmp_path / "cache")
    worst = difference(answers(model), by_onnxruntime(folder / "net.onnx", case))
    assert worst < 1e-5
    table.add(f"ONNX: opset {opset:02}", "onnx", "ONNX Runtime", worst)


def test_a_file_in_the_form_of_cntk_answers_as_onnx_runtime(tmp_path: Path, table: Table) -> None:
    """CNTK cannot be installed any more. Its files have a batch of one, and multiply and add the bias separately."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    folder, node = tmp_path / "net", helper.make_node
    folder.mkdir()
    arrays = {"W": KERNEL, "times": DENSE, "plus": np.float32([[0.1, -0.2, 0.3]]), "shape": np.int64([1, 4])}
    nodes = [
        node("Conv", ["features", "W"], ["maps"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", ["maps"], ["active"]),
        node("GlobalAveragePool", ["active"], ["pooled"]),
        node("Reshape", ["pooled", "shape"], ["row"]),
        node("MatMul", ["row", "times"], ["product"]),
        node("Add", ["product", "plus"], ["z"]),
        node("Softmax", ["z"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "CNTKGraph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, producer_name="CNTK", opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    onnx.save(made, str(folder / "net.onnx"))
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"features": row[np.newaxis]})[0][0] for row in torch(PICTURES)]
    model = open_model(open_model_folder(folder), "auto", cache_dir=tmp_path / "cache")
    worst = difference(answers(model), np.array(rows))
    assert worst < 1e-5
    table.add("ONNX: in the form of CNTK's files", "onnx", "ONNX Runtime", worst)


@pytest.mark.parametrize(
    ("name", "kind", "made_by"),
    [
        ("mms04.model", "MMS: an archive of 0.x", "mxnet-model-export 0.4, MXNet 1.0.0"),
        ("mms10.mar", "MMS: an archive of 1.x", "model-archiver 1.0.3, MXNet 1.0.0"),
    ],
)
def test_an_archive_is_rescued_with_the_answers_of_the_mxnet_that_wrote_its_network(
    tmp_path: Path, table: Table, name: str, kind: str, made_by: str
) -> None:
    (tmp_path / "models").mkdir()
    settings = Settings(models_dir=tmp_path / "models", uploads_dir=tmp_path / "up", instance_dir=tmp_path / "instance")
    done = create_app(settings).test_cli_runner().invoke(rescue, [str(MAKERS / name), "--name", "made"])
    assert done.exit_code == 0, done.output
    facts = json.loads((MAKERS / "mxnet100.json").read_text())
    model = open_model(open_model_folder(tmp_path / "models" / "made"), "auto", cache_dir=tmp_path / "cache")
    assert model.labels == ("ant", "bee", "cat")
    worst = difference(answers(model, np.array(facts["pictures"], np.uint8)), np.array(facts["answers"]))
    assert worst < 1e-5
    table.add(kind, made_by, "the MXNet that wrote it", worst)
