"""Makes ``keras2_tensorflow.h5`` or ``tfkeras2_tensorflow.h5`` here; TensorFlow's own answers go into a ``.npz`` beside it.

Run once with Python 3.7, keras 2.2.4, tensorflow 1.15.5, h5py 2.10 and protobuf 3.20, and once with Python 3.11 and
tensorflow-cpu 2.15.1. The networks have random weights: the answers are to be equal, not right.
"""

from pathlib import Path

import numpy as np

try:
    import keras

    if not keras.__version__.startswith("2.2"):
        raise ImportError
    name = "keras2_tensorflow"
except ImportError:
    from tensorflow import keras

    name = "tfkeras2_tensorflow"

HERE = Path(__file__).parent
L = keras.layers
model = keras.models.Sequential(
    [
        L.Conv2D(3, (3, 3), padding="same", activation="relu", input_shape=(12, 10, 3)),
        L.BatchNormalization(scale=False),
        L.MaxPooling2D((2, 2)),
        L.Conv2D(4, (3, 3), strides=2),
        L.BatchNormalization(),
        L.ReLU(max_value=6.0),
        L.Flatten(),
        L.Dense(5, activation="softmax"),
    ]
)
draw = np.random.RandomState(7)
for layer in model.layers:
    weights = [draw.uniform(0.2, 1.0, w.shape) * draw.choice([-1, 1], w.shape) for w in layer.get_weights()]
    if layer.__class__.__name__ == "BatchNormalization":
        weights = [np.abs(w) for w in weights]
    layer.set_weights(weights)
pictures = draw.uniform(0, 1, (4, 12, 10, 3)).astype("float32")
model.save(str(HERE / (name + ".h5")), include_optimizer=False)
np.savez(str(HERE / (name + ".npz")), pictures=pictures, answers=model.predict(pictures))
print(name, model.predict(pictures))
