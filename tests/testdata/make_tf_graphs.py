"""A small classifier as TensorFlow 2.21 writes it: a SavedModel, a frozen graph, and TFLite files in 32 and in 8 bits.

Run it where tensorflow is installed: ``python make_tf_graphs.py graphs``. ``answers.json`` has what TensorFlow and its
interpreter for TFLite files answer for four pictures.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE, LABELS = 16, "ant\nbee\ncat\n"
draw = np.random.default_rng(5)
brightest = np.array([60, 120, 200, 256]).reshape(4, 1, 1, 1)
pictures = draw.integers(0, brightest, (4, SIDE, SIDE, 3)).astype(np.float32)


class Network(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(draw.normal(0, 0.6, (3, 3, 3, 4)).astype(np.float32))
        self.depthwise = tf.Variable(draw.normal(0, 0.6, (3, 3, 4, 1)).astype(np.float32))
        self.dense = tf.Variable(draw.normal(0, 0.5, (4, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="pixels")])
    def __call__(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        maps = tf.nn.relu6(tf.nn.conv2d(pixels / 127.5 - 1, self.kernel, 1, "VALID"))
        maps = tf.nn.relu(tf.nn.depthwise_conv2d(maps, self.depthwise, (1, 1, 1, 1), "SAME"))
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(maps, (1, 2)) @ self.dense)}


def interpreted(content: bytes) -> list[list[float]]:
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = target["quantization"]
    rows = []
    for picture in pictures:
        interpreter.set_tensor(source["index"], picture[np.newaxis].astype(source["dtype"]))
        interpreter.invoke()
        row = interpreter.get_tensor(target["index"])[0].astype(np.float64)
        rows.append(((row - zero) * scale if scale else row).tolist())
    return rows


def main(folder: Path) -> None:
    network, answers = Network(), {}
    answers["saved_model"] = answers["net.pb"] = network(pictures)["probabilities"].numpy().tolist()
    function = network.__call__.get_concrete_function()
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(network, str(folder / "saved_model"), signatures=function, options=options)
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function).graph.as_graph_def()
    tf.io.write_graph(frozen, str(folder), "net.pb", as_text=False)
    for name in ("float", "int8"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
        if name == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([picture[np.newaxis]] for picture in pictures)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        content = converter.convert()
        answers[f"{name}.tflite"] = interpreted(content)
        (folder / f"{name}.tflite").write_bytes(content)
    with zipfile.ZipFile(folder / "float.tflite", "a") as archive:  # as TensorFlow Lite's metadata append labels
        archive.writestr("labels.txt", LABELS)
    document = {"tensorflow": tf.__version__, "pictures": pictures.astype(int).tolist(), "answers": answers}
    (folder / "answers.json").write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
