"""The outputs of TensorFlow, TensorFlow Lite or Keras for given inputs, computed in an environment that has them.

This file runs as a script there, so it imports nothing of the application. Its arguments are the kind of the file, the
file, the architecture of weights alone or an empty text, the names of the input and of the output, two files: the
inputs (N, …) to read and the outputs (N, classes) to write, both of NumPy, and optionally a TensorFlow Lite file to
write. It prints the program and its version; the program is ``tensorflow-lite`` if it computes in 8 bits.
"""

import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

Compute = Callable[[Any], Any]


def main(
    kind: str, file: str, architecture: str, source: str, output: str, rows: str, answers: str, *lite: str
) -> None:
    """Compute the outputs for the inputs one by one, and write the network for TensorFlow Lite.

    :raises Exception: whatever the program raises if it cannot open, compute or convert the file.
    """
    tensorflow = import_module("tensorflow")
    if kind in ("keras", "tf_keras"):
        program, (compute, call) = f"{kind} {version(kind)}", _keras(kind, file, architecture, output)
    else:
        opened = {"saved_model": _saved_model, "frozen": _frozen, "tflite": _tflite, "onnx": _onnx}[kind]
        name, compute = opened(tensorflow, file, source, output)
        program, call = f"{name} {tensorflow.__version__}", compute
    inputs = np.load(rows)
    computed = [np.asarray(compute(row[np.newaxis]), np.float32).reshape(1, -1) for row in inputs]
    np.save(answers, np.concatenate(computed))
    for path in lite:
        shape = (1, *inputs.shape[1:])
        Path(path).write_bytes(_converted(tensorflow, call, shape))
    print(program)


def _converted(tensorflow: Any, call: Compute, shape: tuple[int, ...]) -> bytes:
    """Return a TensorFlow Lite file of a function of one float32 picture of ``shape``."""
    function = tensorflow.function(call, input_signature=[tensorflow.TensorSpec(shape, tensorflow.float32, "input")])
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    try:
        converted: bytes = converter.convert()
    except Exception as error:
        if missing := re.search(r"^(?:TF Select|Custom) ops: (.+)$", str(error), re.MULTILINE):
            raise ValueError(f"TensorFlow Lite has no operation {missing[1]}") from None
        raise
    return converted


def _keras(package: str, file: str, architecture: str, output: str) -> tuple[Compute, Compute]:
    """Return what computes a row, and the same as a function that TensorFlow can trace."""
    models = import_module(package).models
    if architecture:
        model = models.model_from_json(Path(architecture).read_text(encoding="utf-8"))
        model.load_weights(file)
    else:
        model = models.load_model(file, compile=False)
    axes = len(model.inputs[0].shape)
    names = list(getattr(model, "output_names", ()))  # a Sequential of Keras 3 has none

    def chosen(made: Any) -> Any:
        listed = made if isinstance(made, (list, tuple)) else [made]
        return listed[names.index(output) if output in names and len(listed) > 1 else 0]

    return (
        lambda row: chosen(model.predict_on_batch(_with_axes(row, axes))),
        lambda row: chosen(model(_with_axes(row, axes), training=False)),
    )


def _saved_model(tensorflow: Any, file: str, _source: str, output: str) -> tuple[str, Compute]:
    loaded = tensorflow.saved_model.load(file)
    call = loaded.signatures["serving_default"]
    ((name, spec),) = call.structured_input_signature[1].items()

    def compute(row: Any) -> Any:
        fed = tensorflow.cast(_with_axes(row, len(spec.shape)), spec.dtype)
        made = call(**{name: fed})
        return made[output] if output in made else _only(made)

    call.loaded = loaded  # or its variables would be collected
    return "tensorflow", compute


def _frozen(tensorflow: Any, file: str, source: str, output: str) -> tuple[str, Compute]:
    graph = tensorflow.compat.v1.GraphDef()
    graph.ParseFromString(Path(file).read_bytes())
    whole = tensorflow.compat.v1.wrap_function(lambda: tensorflow.compat.v1.import_graph_def(graph, name=""), [])
    call = whole.prune(_tensor(source), _tensor(output))
    (spec,) = call.inputs

    def compute(row: Any) -> Any:
        return call(tensorflow.cast(row if spec.shape.rank is None else _with_axes(row, spec.shape.rank), spec.dtype))

    return "tensorflow", compute


def _tflite(tensorflow: Any, file: str, _source: str, output: str) -> tuple[str, Compute]:
    interpreter = tensorflow.lite.Interpreter(model_path=file)
    (fed,) = interpreter.get_input_details()
    outputs = {details["name"].removesuffix(":0"): details for details in interpreter.get_output_details()}
    result = outputs[output] if output in outputs else _only(outputs)

    def compute(row: Any) -> Any:
        row = _with_axes(row, len(fed["shape"]))
        interpreter.resize_tensor_input(fed["index"], row.shape)
        interpreter.allocate_tensors()
        scale, zero = fed["quantization"]
        if scale:
            limits = np.iinfo(fed["dtype"])
            row = np.clip(np.round(row / scale + zero), limits.min, limits.max)
        interpreter.set_tensor(fed["index"], row.astype(fed["dtype"]))
        interpreter.invoke()
        made = interpreter.get_tensor(result["index"])
        scale, zero = result["quantization"]
        return (made.astype(np.float32) - zero) * scale if scale else made

    whole = any(details["dtype"] in (np.int8, np.uint8) for details in interpreter.get_tensor_details())
    return "tensorflow-lite" if whole else "tensorflow", compute


def _onnx(_tensorflow: Any, file: str, _source: str, output: str) -> tuple[str, Compute]:
    spec = spec_from_file_location("onnx_tensorflow", Path(__file__).with_name("onnx_tensorflow.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return "tensorflow", module.function_of(file, output)


def _with_axes(row: Any, axes: int) -> Any:
    """Return a row without the axis of the channels if the network takes grey pictures without it."""
    return row[..., 0] if len(row.shape) == axes + 1 and row.shape[-1] == 1 else row


def _only(made: Mapping[str, Any]) -> Any:
    (value,) = made.values()
    return value


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


if __name__ == "__main__":
    main(*sys.argv[1:])
