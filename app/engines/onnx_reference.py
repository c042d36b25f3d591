"""ONNX Runtime, or else ONNX's own reference implementation, as the engine that defines what an ONNX file means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import check_batch
from app.errors import ModelFormatError
from app.formats.onnx_graph import fed_inputs, load_onnx, prune, sort_nodes
from app.types import FloatArray, Signature
from app.utils.error_text import reason_of

RUNTIME, EVALUATOR = "onnxruntime", "onnx"
"""Packages of the two references. ONNX Runtime is preferred, because it is a hundred times faster."""
TRAINING_MODE_OPSET = 14
"""Opset since which ``BatchNormalization`` says whether it is trained."""
FATAL = 4
"""ONNX Runtime's level of the log at which it prints nothing but the cause of a crash."""


class OnnxReference:
    """A network as ONNX Runtime computes it; as the package ``onnx`` computes it if that is all there is."""

    def __init__(self, compute: Any, row_shape: tuple[int, ...], dtype: np.dtype[Any], package: str) -> None:
        """Use :meth:`load`.

        :param compute: computes one row of ``dtype``.
        """
        self._compute = compute
        self._row_shape = row_shape
        self._dtype = dtype
        self.package = package

    @classmethod
    def load(cls, path: Path, signature: Signature) -> OnnxReference:
        """Load an ONNX file with the input's shape and the output of a signature.

        :raises ModelFormatError: if neither reference can compute the file.
        """
        import onnx

        model = load_onnx(path)
        onnx.load_external_data_for_model(model, str(path.parent))
        output = signature.outputs[0].name if signature.outputs else ""
        prune(model, output if output in {value.name for value in model.graph.output} else model.graph.output[0].name)
        fed = fed_inputs(model.graph)[0]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(fed.type.tensor_type.elem_type)
        sizes = signature.inputs[0].shape[1:]
        axes = fed.type.tensor_type.shape.dim[1:]
        row_shape = tuple(size or axis.dim_value for size, axis in zip(sizes, axes, strict=False)) or sizes
        try:
            sort_nodes(model.graph)
            compute, package = _open(model, fed.name, model.graph.output[0].name)
        except Exception as error:  # both raise errors of many types
            raise ModelFormatError(f"{path} cannot be computed by its reference: {reason_of(error)}") from None
        return cls(compute, row_shape, dtype, package)

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch (N, …) -> (N, classes), one row at a time.

        Inputs of whole numbers get rounded values.

        :raises ValueError: if the batch has another shape.
        """
        check_batch(batch, self._row_shape)
        return np.concatenate([self._row(batch[number : number + 1]) for number in range(len(batch))])

    def close(self) -> None:
        """Release the network."""
        self._compute = None

    def _row(self, row: FloatArray) -> FloatArray:
        if np.issubdtype(self._dtype, np.integer):
            limits = np.iinfo(self._dtype)
            row = np.clip(np.rint(row), limits.min, limits.max)
        answer: FloatArray = np.asarray(self._compute(row.astype(self._dtype))).reshape(1, -1).astype(np.float32)
        return answer


def _open(model: Any, fed: str, output: str) -> tuple[Any, str]:
    """Return a function that computes a row, and the package that does it."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
        evaluator = ReferenceEvaluator(model, new_ops=[_batch_normalization()] if opset < TRAINING_MODE_OPSET else None)
        return (lambda row: evaluator.run([output], {fed: row})[0]), EVALUATOR
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return (lambda row: session.run([output], {fed: row})[0]), RUNTIME


def _batch_normalization() -> Any:
    """Return ``BatchNormalization`` as older opsets define it for one output.

    ``onnx`` 1.16 normalizes by the mean and the variance of the batch, as in training.
    """
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float, **_: Any) -> tuple[Any]:
            factor, offset, centre, spread = (
                side.reshape(-1, *[1] * (x.ndim - 2)) for side in (scale, bias, mean, variance)
            )
            return ((factor * (x - centre) / np.sqrt(spread + epsilon) + offset).astype(x.dtype),)

    return BatchNormalization
