"""Keras networks that tf2onnx writes as ONNX and TensorFlow as TFLite: ``python make_tensorflow.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx
from common import CLASSES, SIDE, record, unit

FOLDER = Path(__file__).parent


def network(filters: int) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    net = tf.keras.Sequential(
        [
            layers.InputLayer((SIDE, SIDE, 3)),
            layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    weights = net.get_weights()
    weights[-2] *= 12
    net.set_weights(weights)
    return net


def to_onnx() -> None:
    net = network(6)

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="pixels")])
    def call(pixels: tf.Tensor) -> tf.Tensor:
        return net(pixels, training=False)

    answers = call(unit()).numpy()
    for name, options in {"tf2onnx": {}, "tf2onnx_first": {"inputs_as_nchw": ["pixels:0"]}}.items():
        tf2onnx.convert.from_function(
            call, call.input_signature, opset=15, output_path=str(FOLDER / f"{name}.onnx"), **options
        )
        order = "channels first" if options else "channels last"
        made_by = f"tf2onnx {tf2onnx.__version__}, TensorFlow {tf.__version__}"
        record(FOLDER, name, f"ONNX: of tf2onnx, {order}", made_by, answers)


def to_tflite() -> None:
    """Write weights in 8 bits, without examples of the input: TensorFlow Lite quantizes the maps as it computes them.

    It leaves arrays of fewer than 1,024 numbers as they are.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(network(48))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    (FOLDER / "dynamic_range.tflite").write_bytes(content)
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    rows = []
    for picture in unit():
        interpreter.set_tensor(source, picture[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target)[0])
    record(FOLDER, "dynamic_range", "TFLite: dynamic range", f"TensorFlow {tf.__version__}", rows)


if __name__ == "__main__":
    to_onnx()
    to_tflite()
