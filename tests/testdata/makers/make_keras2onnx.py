"""A Keras network that keras2onnx writes as ONNX: ``python make_keras2onnx.py``."""

from __future__ import annotations

from pathlib import Path

import keras2onnx
import onnx
import tensorflow as tf
from common import CLASSES, SIDE, record, unit

FOLDER = Path(__file__).parent


def main() -> None:
    tf.random.set_seed(3)
    layers = tf.keras.layers
    net = tf.keras.Sequential(
        [
            layers.InputLayer((SIDE, SIDE, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.1),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    weights = net.get_weights()
    weights[-2] *= 6
    net.set_weights(weights)
    onnx.save(keras2onnx.convert_keras(net, net.name, target_opset=11), str(FOLDER / "keras2onnx.onnx"))
    made_by = f"keras2onnx {keras2onnx.__version__}, TensorFlow {tf.__version__}"
    record(FOLDER, "keras2onnx", "ONNX: of keras2onnx", made_by, net.predict(unit()))


if __name__ == "__main__":
    main()
