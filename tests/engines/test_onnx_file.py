"""ONNX files of users, against ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engines.loader import load
from app.engines.onnx_file import convert_file
from app.engines.openvino import OpenvinoEngine
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.infer_signature import ModelFiles, infer_signature
from app.types import Signature, TensorSpec
from app.utils.error_text import reason_of
from app.utils.openvino_runtime import import_openvino
from tests.engines.onnx_graphs import Drawn
from tests.rounding import rounding

DRAW = np.random.default_rng(5)
KERNEL = DRAW.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32)
WEIGHT = DRAW.normal(0, 1.0, (4, 5)).astype(np.float32)


def write(path: Path, shape: list[Any], opset: int = 13, softmax: bool = True, last: bool = False) -> None:
    """Write convolution, ReLU, average, layer and, if requested, softmax."""
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["maps0"], perm=[0, 3, 1, 2])
        if last
        else helper.make_node("Identity", ["pixels"], ["maps0"]),
        helper.make_node("Conv", ["maps0", "kernel"], ["maps1"]),
        helper.make_node("Relu", ["maps1"], ["maps2"]),
        helper.make_node("GlobalAveragePool", ["maps2"], ["maps3"]),
        helper.make_node("Flatten", ["maps3"], ["row"]),
        helper.make_node("Gemm", ["row", "weight", "bias"], ["answer" if not softmax else "logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["answer"], axis=1))
    learned = {"kernel": KERNEL, "weight": WEIGHT, "bias": np.zeros(5, np.float32)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [shape[0], 5])],
        [numpy_helper.from_array(array, name) for name, array in learned.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def folder_of(file: Path, signature: Signature | None = None) -> ModelFolder:
    return ModelFolder(file.parent, "net", "1.0", signature, None, None, None, onnx=file)


def by_onnxruntime(file: Path, batch: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": batch[n : n + 1]})[0] for n in range(len(batch))])


def convert(file: Path, size: tuple[int, ...] = (0, 3, 16, 16), output: str = "") -> Signature:
    outputs = (TensorSpec(output, (0, 5)),) if output else ()
    return convert_file(folder_of(file), Signature((TensorSpec("pixels", size),), outputs), file.parent)


def answers(folder: Path, batch: Any) -> Any:
    return OpenvinoEngine.load(folder / "model.xml", 0).predict(batch)


@pytest.mark.parametrize("opset", range(7, 24))
def test_files_of_every_opset_answer_as_in_onnx_runtime(tmp_path: Path, opset: int) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16], opset)
    assert convert(tmp_path / "net.onnx").outputs == (TensorSpec("answer", (0, 5)),)
    batch = DRAW.normal(size=(4, 3, 16, 16)).astype(np.float32)
    expected = by_onnxruntime(tmp_path / "net.onnx", batch)
    assert np.ptp(expected, axis=0).max() > 1e-2
    assert answers(tmp_path, batch) == pytest.approx(expected, abs=rounding(layers=4))


@pytest.mark.parametrize(
    ("shape", "last", "size"),
    [
        ([1, 3, 20, 24], False, (0, 3, 20, 24)),
        ([8, 3, 20, 24], False, (0, 3, 20, 24)),
        (["N", 3, "H", "W"], False, (0, 3, 40, 30)),
        (["N", 3, 16, 16], False, (0, 3, 40, 30)),
        (["N", "H", "W", 3], True, (0, 20, 24, 3)),
        (["N", 3, 20, 24], False, (0, 0, 0, 0)),
    ],
)
def test_the_input_has_the_size_that_the_signature_gives(
    tmp_path: Path, shape: list[Any], last: bool, size: tuple[int, ...]
) -> None:
    write(tmp_path / "net.onnx", shape, last=last)
    convert(tmp_path / "net.onnx", size)
    sizes = size[1:] if size[1] else shape[1:]
    batch = DRAW.normal(size=(2, *sizes)).astype(np.float32)
    write(tmp_path / "open.onnx", ["N", "A", "B", "C"], last=last)
    assert answers(tmp_path, batch) == pytest.approx(by_onnxruntime(tmp_path / "open.onnx", batch), abs=1e-6)


def test_an_input_without_a_known_size_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, "H", "W"])
    with pytest.raises(ModelFormatError, match=r"leaves the size of its input open: \(3, 0, 0\)"):
        convert(tmp_path / "net.onnx", (0, 3, 0, 0))


def test_external_weights_are_accepted_only_beside_the_file(tmp_path: Path) -> None:
    for name, taken in (("net.onnx.data", True), ("../secret", False)):
        folder = tmp_path / ("taken" if taken else "refused")
        folder.mkdir()
        write(folder / "net.onnx", ["N", 3, 16, 16])
        model = onnx.load(str(folder / "net.onnx"))
        onnx.save(
            model, str(folder / "net.onnx"), save_as_external_data=True, location="net.onnx.data", size_threshold=0
        )
        if taken:
            convert(folder / "net.onnx")
            continue
        model = onnx.load(str(folder / "net.onnx"), load_external_data=False)
        model.graph.initializer[0].external_data[0].value = name
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelFormatError, match=r"keeps the weights \w+ in '\.\./secret'"):
            convert(folder / "net.onnx")


def test_a_folder_with_an_onnx_file_is_opened_with_any_chosen_engine(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    write(tmp_path / "net" / "net.onnx", ["N", 3, 16, 16])
    batch = DRAW.normal(size=(2, 3, 16, 16)).astype(np.float32)
    for choice in ("auto", "mxnet"):
        opened = load(open_model_folder(tmp_path / "net"), choice, tmp_path / "cache")
        assert opened.kind == "openvino" and opened.parity is not None
        assert opened.parity.reference == "onnxruntime" and opened.parity.max_abs_difference < 1e-5
        assert opened.signature.inputs == (TensorSpec("pixels", (0, 3, 16, 16)),)
        expected = by_onnxruntime(tmp_path / "net" / "net.onnx", batch)
        assert opened.engine.predict(batch) == pytest.approx(expected, abs=rounding(layers=4))


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelFormatError, match=r"net\.onnx cannot be read as an ONNX model"):
        load(folder_of(tmp_path / "net" / "net.onnx"), "auto", tmp_path / "cache")


def edit(file: Path, change: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    model = onnx.load(str(file))
    change(model)
    file.write_bytes(model.SerializeToString())
    return model


BATCH = DRAW.normal(size=(3, 3, 16, 16)).astype(np.float32)


def set_version(ir: int, opset: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.ir_version = ir
        model.opset_import[0].version = opset

    return change


def turn_round(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@pytest.mark.parametrize(
    "change",
    [set_version(3, 8), set_version(11, 22), set_version(12, 23), set_version(13, 24), turn_round],
    ids=["ir3", "ir11", "ir12", "ir13", "not sorted"],
)
def test_newer_files_and_nodes_in_any_order_answer_as_the_plain_file_does(tmp_path: Path, change: Any) -> None:
    """All of the operations mean the same in these versions."""
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    expected = by_onnxruntime(tmp_path / "net.onnx", BATCH)
    edit(tmp_path / "net.onnx", change)
    convert(tmp_path / "net.onnx")
    assert answers(tmp_path, BATCH) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("opset", [13, 18, 22, 24])
def test_functions_defined_in_a_file_are_inlined(tmp_path: Path, opset: int) -> None:
    """One function calls the other, and a third is needed by an output that is not used."""
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    inner = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    outer = helper.make_function(
        "own",
        "Act",
        ["a"],
        ["c"],
        [helper.make_node("Twice", ["a"], ["b"], domain="own"), helper.make_node("Relu", ["b"], ["c"])],
        [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)],
    )

    def change(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Relu").CopyFrom(
            helper.make_node("Act", ["maps1"], ["maps2"], domain="own")
        )
        model.opset_import.append(helper.make_opsetid("own", 1))
        model.functions.extend([inner, outer])
        model.ir_version = 10

    edit(tmp_path / "net.onnx", change)
    expected = by_onnxruntime(tmp_path / "net.onnx", BATCH)

    def relabel(model: onnx.ModelProto) -> None:
        """Change the opset; addition and ReLU have been the same since opset 13."""
        model.opset_import[0].version = opset
        for function in model.functions:
            function.opset_import[0].version = opset

    edit(tmp_path / "net.onnx", relabel)
    convert(tmp_path / "net.onnx")
    assert answers(tmp_path, BATCH) == pytest.approx(expected, abs=1e-6)


def test_functions_cannot_read_weights_in_other_folders(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    secret = numpy_helper.from_array(np.zeros(4, np.float32), "secret")
    secret.ClearField("raw_data")
    secret.data_location = TensorProto.EXTERNAL
    secret.external_data.add(key="location", value="../secret")
    nodes = [helper.make_node("Constant", [], ["b"], value=secret)]
    function = helper.make_function("own", "Read", ["a"], ["b"], nodes, [helper.make_opsetid("", 13)])
    edit(tmp_path / "net.onnx", lambda model: model.functions.append(function))
    with pytest.raises(ModelFormatError, match=r"'\.\./secret', outside of its folder"):
        convert(tmp_path / "net.onnx")


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "int32", "int64"])
def test_integer_inputs_get_the_nearest_representable_number(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16], softmax=False)

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].CopyFrom(helper.make_node("Cast", ["pixels"], ["maps0"], to=TensorProto.FLOAT))
        model.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))

    edit(tmp_path / "net.onnx", change)
    convert(tmp_path / "net.onnx")
    batch = DRAW.uniform(-300, 300, (3, 3, 16, 16)).astype(np.float32)
    batch[0, 0, 0, :4] = [127.49999, 127.5, 126.5, 254.99998]
    whole = np.rint(batch).clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    expected = by_onnxruntime(tmp_path / "net.onnx", whole)
    assert np.ptp(expected, axis=0).max() > 1e-2
    assert answers(tmp_path, batch) == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("kind", "difference"), [("float16", 5e-3), ("float64", 1e-6)])
def test_networks_of_other_float_types_take_and_return_float32(tmp_path: Path, kind: str, difference: float) -> None:
    """The bound for 16 bits is ten times what they round at. ONNX Runtime computes in 32, as it has no other Conv."""
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    expected = by_onnxruntime(tmp_path / "net.onnx", BATCH)

    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        for array in model.graph.initializer:
            array.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(array).astype(kind), array.name))

    edit(tmp_path / "net.onnx", change)
    convert(tmp_path / "net.onnx")
    assert answers(tmp_path, BATCH) == pytest.approx(expected, abs=difference)


def with_heads(file: Path, external: bool) -> None:
    """Write beside the answer: logits, features, a loss with an input of its own, and an unknown operation."""
    write(file, ["N", 3, 16, 16])

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.input.append(helper.make_tensor_value_info("target", TensorProto.FLOAT, ["N", 5]))
        graph.initializer.append(numpy_helper.from_array(np.float32([2, 2, 2, 2]), "only for features"))
        graph.node.extend(
            [
                helper.make_node("ArgMax", ["answer"], ["class"], axis=1),
                helper.make_node("Sub", ["answer", "target"], ["loss"]),
                helper.make_node("Wobble", ["maps2"], ["wobbled"], domain="nobody"),
                helper.make_node("Mul", ["row", "only for features"], ["features"]),
            ]
        )
        for name, size in (("loss", 5), ("wobbled", 5), ("features", 4), ("logits", 5)):
            graph.output.insert(0, helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]))
        graph.output.append(helper.make_tensor_value_info("class", TensorProto.INT64, ["N", 1]))
        model.opset_import.append(helper.make_opsetid("nobody", 1))

    model = edit(file, change)
    if external:
        onnx.save(model, str(file), save_as_external_data=True, location=f"{file.name}.data", size_threshold=0)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("output", ["answer", "features", "logits", "", "nothing of the kind"])
def test_only_the_named_output_of_several_is_converted(tmp_path: Path, external: bool, output: str) -> None:
    with_heads(tmp_path / "net.onnx", external)
    found = convert(tmp_path / "net.onnx", output=output).outputs
    taken = output if output in ("answer", "features", "logits") else "logits"  # the first
    assert found == (TensorSpec(taken, (0, 4 if taken == "features" else 5)),)
    onnx.utils.extract_model(str(tmp_path / "net.onnx"), str(tmp_path / "part.onnx"), ["pixels"], [taken], False)
    expected = by_onnxruntime(tmp_path / "part.onnx", BATCH)
    assert answers(tmp_path, BATCH) == pytest.approx(expected, abs=1e-6)


def test_an_output_with_an_input_of_its_own_or_an_unknown_operation_is_refused(tmp_path: Path) -> None:
    with_heads(tmp_path / "net.onnx", False)
    with pytest.raises(ModelFormatError, match=r"has 2 inputs \(pixels, target\)"):
        convert(tmp_path / "net.onnx", output="loss")
    with pytest.raises(import_openvino().frontend.OpConversionFailure) as caught:
        convert(tmp_path / "net.onnx", output="wobbled")
    assert reason_of(caught.value) == "No conversion rule found for operations: nobody.Wobble"


def test_a_shape_mismatch_is_reported_with_its_node(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    weight = numpy_helper.from_array(np.zeros((7, 5), np.float32), "weight")
    edit(tmp_path / "net.onnx", lambda model: model.graph.initializer[1].CopyFrom(weight))
    with pytest.raises(import_openvino().frontend.OpConversionFailure) as caught:
        convert(tmp_path / "net.onnx")
    assert re.match(r"Gemm logits: Incompatible MatMul matrix dimension.*=4.*=7", reason_of(caught.value))
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    with pytest.raises(RuntimeError) as raised:
        convert(tmp_path / "net.onnx", (0, 1, 16, 16))
    assert re.match(r"maps1: .*channel count \(1\) does not match .* \(3\)", reason_of(raised.value))


def test_an_if_keeps_the_outer_values_that_its_branches_read(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])

    def change(model: onnx.ModelProto) -> None:
        value = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 5])
        branches = {
            f"{branch}_branch": helper.make_graph(
                [helper.make_node(op, [name, "weight2"], ["out"])], branch, [], [value]
            )
            for branch, op, name in (("then", "Mul", "answer"), ("else", "Add", "logits"))
        }
        model.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2, 3, 4, 5]), "weight2"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
        model.graph.node.append(helper.make_node("If", ["always"], ["chosen"], **branches))
        model.graph.output.append(helper.make_tensor_value_info("chosen", TensorProto.FLOAT, ["N", 5]))

    edit(tmp_path / "net.onnx", change)
    write(tmp_path / "plain.onnx", ["N", 3, 16, 16])
    expected = by_onnxruntime(tmp_path / "plain.onnx", BATCH) * [1, 2, 3, 4, 5]
    convert(tmp_path / "net.onnx", output="chosen")
    assert answers(tmp_path, BATCH) == pytest.approx(expected, abs=1e-5)


def test_a_zip_map_is_replaced_by_the_row_that_it_labels(tmp_path: Path) -> None:
    """Files of Custom Vision end so: a class as text, and a dictionary of probabilities."""
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])
    expected = by_onnxruntime(tmp_path / "net.onnx", BATCH)

    def change(model: onnx.ModelProto) -> None:
        labels = list("abcde")
        model.graph.node.extend(
            [
                helper.make_node("ArgMax", ["answer"], ["number"], axis=1, keepdims=0),
                helper.make_node(
                    "LabelEncoder",
                    ["number"],
                    ["classLabel"],
                    domain="ai.onnx.ml",
                    keys_int64s=list(range(5)),
                    values_strings=labels,
                ),
                helper.make_node("ZipMap", ["answer"], ["loss"], domain="ai.onnx.ml", classlabels_strings=labels),
            ]
        )
        row = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        del model.graph.output[:]
        model.graph.output.extend(
            [
                helper.make_tensor_value_info("classLabel", TensorProto.STRING, ["N"]),
                helper.make_value_info("loss", helper.make_sequence_type_proto(row)),
            ]
        )
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))

    edit(tmp_path / "net.onnx", change)
    inference = infer_signature(ModelFiles(onnx=tmp_path / "net.onnx"))
    assert inference.labels == tuple("abcde")
    assert [output.name for output in inference.signature.outputs] == ["loss"]
    assert inference.signature.postprocess.activation == "none"
    assert convert(tmp_path / "net.onnx", output="loss").outputs == (TensorSpec("loss", (0, 5)),)
    assert answers(tmp_path, BATCH) == pytest.approx(expected, abs=1e-6)


def test_an_output_with_a_data_dependent_shape_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16])

    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("NonZero", ["answer"], ["places"]))
        model.graph.output.insert(0, helper.make_tensor_value_info("places", TensorProto.INT64, [2, "M"]))

    edit(tmp_path / "net.onnx", change)
    with pytest.raises(ModelFormatError, match="the shape of the output places differs from picture to picture"):
        convert(tmp_path / "net.onnx")


@pytest.mark.parametrize("seed", range(20))
def test_networks_of_any_exporter_answer_as_in_onnx_runtime(tmp_path: Path, seed: int) -> None:
    """Opsets 11 to 23, nodes in any order, one output or three. The bound is a thousand times what 32 bits round at."""
    import onnxruntime

    drawn = Drawn(seed)
    batch = drawn.batch(2)
    (tmp_path / "net.onnx").write_bytes(drawn.model.SerializeToString())
    options = onnxruntime.SessionOptions()  # its optimizer lets MaxPool do the work of a Pad with zeros, wrongly
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(drawn.sorted.SerializeToString(), options, ["CPUExecutionProvider"])
    output = drawn.outputs[-1]
    expected = np.concatenate([session.run([output], {"pixels": batch[n : n + 1]})[0] for n in range(len(batch))])
    assert convert(tmp_path / "net.onnx", (0, *batch.shape[1:]), output).outputs[0].name == output
    assert answers(tmp_path, batch) == pytest.approx(expected, abs=6e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("between", ["", "Identity", "Div"])
@pytest.mark.parametrize(
    ("op", "shape", "options"),
    [
        ("Conv", (4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [1, 1]}),
        ("Conv", (4, 3, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ("Conv", (3, 1, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2], "group": 3}),
        ("Conv", (4, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
        ("Conv", (4, 3, 3, 3), {"pads": [1, 0, 1, 0], "strides": [2, 2]}),
        ("ConvTranspose", (3, 4, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("AveragePool", None, {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3], "strides": [2, 2]}),
        ("AveragePool", None, {"auto_pad": "SAME_LOWER", "kernel_shape": [3, 3], "count_include_pad": 1}),
        ("MaxPool", None, {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3], "strides": [2, 2]}),
    ],
)
def test_a_pad_is_added_to_the_padding_of_the_following_operation(
    tmp_path: Path, op: str, shape: tuple[int, ...] | None, options: dict[str, Any], between: str
) -> None:
    import onnxruntime

    learned = {"pads": np.array([0, 0, 2, 1, 0, 0, 0, 3]), "scale": np.full((1, 3, 1, 1), 2, np.float32)}
    if shape:
        learned["kernel"] = DRAW.normal(size=shape).astype(np.float32)
    nodes = [
        helper.make_node("Pad", ["pixels", "pads"], ["padded"]),
        helper.make_node(between or "Identity", ["padded", *(["scale"] if between == "Div" else [])], ["same"]),
        helper.make_node(op, ["same" if between else "padded", *(["kernel"] if shape else [])], ["answer"], **options),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 11, 12])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in learned.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    batch = DRAW.normal(size=(1, 3, 11, 12)).astype(np.float32)
    exact = onnxruntime.SessionOptions()
    exact.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), exact, ["CPUExecutionProvider"])
    expected = session.run(None, {"pixels": batch})[0]
    convert(tmp_path / "net.onnx", (0, 3, 11, 12))
    assert answers(tmp_path, batch) == pytest.approx(expected.reshape(1, -1), abs=1e-5)


@pytest.mark.parametrize("strides", [[2, 2], [1, 2], [3, 3]])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]])
def test_a_convolution_of_one_pixel_with_strides_and_padding_answers_as_in_onnx_runtime(
    tmp_path: Path, strides: list[int], pads: list[int], split: bool
) -> None:
    import onnxruntime

    learned = {"kernel": DRAW.normal(size=(4, 3, 1, 1)).astype(np.float32)}
    first = [helper.make_node("Relu", ["pixels"], ["positive"])]
    if split:
        first = [
            helper.make_node("Concat", ["pixels", "pixels"], ["both"], axis=1),
            helper.make_node("Split", ["both"], ["one", "other"], axis=1),
            helper.make_node("Sigmoid", ["other"], ["gate"]),
            helper.make_node("Mul", ["one", "gate"], ["positive"]),
        ]
    graph = helper.make_graph(
        [
            *first,
            helper.make_node("Conv", ["positive", "kernel"], ["answer"], pads=pads, strides=strides),
        ],
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 9, 10])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in learned.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    batch = DRAW.normal(size=(1, 3, 9, 10)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"pixels": batch})[0]
    convert(tmp_path / "net.onnx", (0, 3, 9, 10))
    assert answers(tmp_path, batch) == pytest.approx(expected.reshape(1, -1), abs=1e-5)
