"""Archives that compute with MXNet: services of 0.x, and the template of 1.x that archives carry a copy of."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.formats.mxnet_params import write_params
from tests.handlers.archives import archive, request
from tests.handlers.conftest import Run

SMILE_SERVICE = """
    from mms.model_service.mxnet_model_service import MXNetBaseService
    from mms.utils.mxnet import image, ndarray

    class SmileService(MXNetBaseService):
        def _preprocess(self, data):
            arrays = []
            for buffer, described in zip(data, self.signature["inputs"]):
                height, width = described["data_shape"][2:]
                picture = image.resize(image.read(buffer, 0), width, height)
                arrays.append(image.transform_shape(picture).astype("float32") / 256)
            return arrays

        def _postprocess(self, data):
            return [ndarray.top_probability(output, self.labels, top=2) for output in data]
"""

MODEL_HANDLER = """
    import time
    from mms.context import Context

    class ModelHandler(object):
        def __init__(self):
            self.initialized = False

        def initialize(self, context):
            assert isinstance(context, Context)
            self.batch_size = context.system_properties["batch_size"]
            self.initialized = True

        def handle(self, data, context):
            started = time.time()
            result = self.postprocess(self.inference(self.preprocess(data)))
            context.metrics.add_time("HandlerTime", round((time.time() - started) * 1000, 2), None, "ms")
            return result
"""

MXNET_MODEL_SERVICE = """
    import json, os
    import mxnet as mx
    from mxnet.io import DataBatch
    from model_handler import ModelHandler

    class MXNetModelService(ModelHandler):
        def initialize(self, context):
            super(MXNetModelService, self).initialize(context)
            assert self.batch_size == 1
            properties = context.system_properties
            folder, gpu = properties.get("model_dir"), properties.get("gpu_id")
            with open(os.path.join(folder, "signature.json")) as file:
                self.signature = json.load(file)
            with open(os.path.join(folder, "synset.txt")) as file:
                self.labels = [line.strip() for line in file]
            shapes = [(one["data_name"], [1] + one["data_shape"][1:]) for one in self.signature["inputs"]]
            prefix = os.path.join(folder, context.manifest["model"]["modelName"])
            symbol, arguments, states = mx.model.load_checkpoint(prefix, 0)
            self.ctx = mx.cpu() if gpu is None else mx.gpu(gpu)
            self.module = mx.mod.Module(
                symbol=symbol, context=self.ctx, data_names=[name for name, _ in shapes], label_names=None
            )
            self.module.bind(for_training=False, data_shapes=shapes)
            self.module.set_params(arguments, states, allow_missing=True, allow_extra=True)

        def inference(self, inputs):
            if isinstance(inputs, str):
                return inputs
            self.module.forward(DataBatch([one.as_in_context(self.ctx) for one in inputs]))
            return self.module.get_outputs()
"""

MXNET_VISION_SERVICE = """
    from mxnet_model_service import MXNetModelService
    from mxnet_utils import image, ndarray

    class MXNetVisionService(MXNetModelService):
        def preprocess(self, data):
            name = self.signature["inputs"][0]["data_name"]
            height, width = self.signature["inputs"][0]["data_shape"][2:]
            buffer = data[0].get(name) or data[0].get("body") or data[0].get("data")
            if not buffer:
                return "Empty image input"
            return [image.transform_shape(image.resize(image.read(buffer), width, height))]

        def postprocess(self, data):
            if isinstance(data, str):
                return [data]
            return [ndarray.top_probability(output, self.labels, top=5) for output in data]

    _service = MXNetVisionService()

    def handle(data, context):
        if not _service.initialized:
            _service.initialize(context)
        return None if data is None else _service.handle(data, context)
"""

MXNET_UTILS = {
    "mxnet_utils/__init__.py": "from . import image, ndarray\n",
    "mxnet_utils/image.py": """
        import mxnet as mx

        def read(buffer):
            return mx.image.imdecode(buffer)

        def resize(picture, width, height):
            return mx.image.imresize(picture, width, height, interp=2)

        def transform_shape(picture):
            return mx.nd.expand_dims(mx.nd.transpose(picture, (2, 0, 1)), axis=0)
    """,
    "mxnet_utils/ndarray.py": """
        import numpy as np
        import mxnet as mx

        def top_probability(data, labels, top=5):
            order = mx.nd.argsort(data[0], is_ascend=False)[0:top]
            indices = [int(one.asscalar()) for one in order]
            return [{"probability": float(data[0, one].asscalar()), "class": labels[one]} for one in indices]
    """,
}


def checkpoint(prefix: Path, input_name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Write a network of one dense layer and softmax, as MXNet writes it."""
    nodes = [
        {"op": "null", "name": input_name, "inputs": []},
        {"op": "null", "name": "dense_weight", "inputs": []},
        {"op": "null", "name": "dense_bias", "inputs": []},
        {
            "op": "FullyConnected",
            "name": "dense",
            "attrs": {"num_hidden": str(len(bias))},
            "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]],
        },
        {"op": "softmax", "name": "prob", "inputs": [[3, 0, 0]]},
    ]
    graph = {"nodes": nodes, "arg_nodes": [0, 1, 2], "node_row_ptr": list(range(6)), "heads": [[4, 0, 0]]}
    graph["attrs"] = {"mxnet_version": ["int", 10901]}
    prefix.with_name(f"{prefix.name}-symbol.json").write_text(json.dumps(graph))
    write_params(prefix.with_name(f"{prefix.name}-0000.params"), {"arg:dense_weight": weight, "arg:dense_bias": bias})


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def test_a_service_of_0_x_answers_as_numpy_and_opencv_compute(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(0, 0.05, (2, 1024)).astype("f4"), np.array([0.2, -0.1], "f4")
    manifest = {
        "Model": {
            "Symbol": "smileCNN_model-symbol.json",
            "Parameters": "smileCNN_model-0000.params",
            "Signature": "signature.json",
            "Service": "custom_service.py",
            "Model-Name": "smileCNN",
        }
    }
    signature = {
        "inputs": [{"data_name": "/conv2d_1_input1", "data_shape": [0, 1, 32, 32]}],
        "input_type": "image/jpeg",
        "outputs": [{"data_name": "softmax", "data_shape": [0, 2]}],
        "output_type": "application/json",
    }
    files = {
        "custom_service.py": SMILE_SERVICE,
        "MANIFEST.json": json.dumps(manifest),
        "signature.json": json.dumps(signature),
        "synset.txt": "non-smiling\nsmiling\n",
    }
    checkpoint(archive(tmp_path, files) / "smileCNN_model", "/conv2d_1_input1", weight, bias)
    workers = run(tmp_path, "custom_service.py", model_name="smileCNN", legacy=True)
    faces = [rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(2)]
    answers = workers.predict([request(png(face), "image/png") for face in faces])
    for face, answer in zip(faces, answers, strict=True):
        pixels = cv2.resize(face, (32, 32), interpolation=cv2.INTER_CUBIC).astype(float) / 256
        expected = softmax(weight @ pixels.ravel() + bias)
        reply = json.loads(answer.body)
        assert list(reply[0]) == ["probability", "class"]
        assert [item["class"] for item in reply] == ["smiling", "non-smiling"][
            :: 1 if expected[1] > expected[0] else -1
        ]
        assert [item["probability"] for item in reply] == pytest.approx(sorted(expected)[::-1], abs=1e-5)
    (broken,) = workers.predict([request(b"no picture", "image/jpeg")])
    assert broken.error == ("InternalServerException", "Prediction failed")


@pytest.mark.slow
def test_the_vision_template_answers_as_numpy_and_opencv_compute(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(0, 0.0005, (6, 3 * 8 * 10)).astype("f4"), rng.normal(0, 1, 6).astype("f4")
    files = {
        "model_handler.py": MODEL_HANDLER,
        "mxnet_model_service.py": MXNET_MODEL_SERVICE,
        "mxnet_vision_service.py": MXNET_VISION_SERVICE,
        **MXNET_UTILS,
        "MAR-INF/MANIFEST.json": json.dumps({"model": {"modelName": "archived"}}),
        "signature.json": json.dumps({"inputs": [{"data_name": "data", "data_shape": [0, 3, 8, 10]}]}),
        "synset.txt": "".join(f"n{index} label {index}\n" for index in range(6)),
    }
    checkpoint(archive(tmp_path, files) / "archived", "data", weight, bias)
    workers = run(tmp_path, "mxnet_vision_service:handle")
    picture = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    (answer,) = workers.predict([request(png(picture), "")])
    pixels = cv2.resize(picture, (10, 8), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1).astype(float)
    expected = softmax(weight @ pixels.ravel() + bias)
    best = np.argsort(-expected)[:5]
    reply = json.loads(answer.body)
    assert [item["class"] for item in reply] == [f"n{index} label {index}" for index in best]
    assert [item["probability"] for item in reply] == pytest.approx(list(expected[best]), abs=1e-5)
    (empty,) = workers.predict([request()])
    assert (empty.status, empty.body) == (200, b"Empty image input")
