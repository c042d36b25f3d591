"""Make tiny ``.h5`` files with a real Keras 2.0 over TensorFlow 1.15 or Theano 1.0.5, and its answers beside them.

How it was made, in throwaway environments, never in the project's:

    python3.7 -m venv scratch
    scratch/bin/pip install tensorflow==1.15.5 theano==1.0.5 protobuf==3.20.3 numpy==1.18.5 h5py==2.10.0 keras==2.0.9
    KERAS_BACKEND=tensorflow scratch/bin/python tests/testdata/make_keras2_h5.py tf FOLDER
    KERAS_BACKEND=theano scratch/bin/python tests/testdata/make_keras2_h5.py th FOLDER

It needs nothing of Dimple. Each NAME.h5 gets a NAME.json with the input and what Keras answered to it.
"""

import json
import sys

import numpy as np


def sequential(layers, models, shape):
    """Layers with the names of options that Keras 2 introduced, with sides that all differ."""
    return models.Sequential(
        [
            layers.ZeroPadding2D(((1, 0), (2, 1)), input_shape=shape),
            layers.Conv2D(4, (3, 2), activation="relu"),
            layers.Conv2D(5, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(axis=-1 if shape[2] == 3 else 1),
            layers.Activation("elu"),
            layers.MaxPooling2D(2, padding="same"),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(6, activation="softsign"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def graph(layers, models, shape):
    """Branches, sums, a concatenation, and a model as a layer."""
    channels = 3 if shape[2] == 3 else 1
    picture = layers.Input(shape=shape)
    left = layers.Conv2D(4, 3, padding="same", dilation_rate=2)(picture)
    right = layers.LeakyReLU(0.2)(layers.Conv2D(4, 3, padding="same")(picture))
    both = layers.concatenate([layers.add([left, right]), layers.maximum([left, right])], axis=channels)
    inner = layers.Input(shape=tuple(8 if axis == channels - 1 else side for axis, side in enumerate(shape)))
    body = models.Model(inner, layers.Cropping2D(1)(layers.UpSampling2D(2)(layers.AveragePooling2D(2)(inner))))
    net = layers.GlobalMaxPooling2D()(body(both))
    return models.Model(picture, layers.Dense(2, activation="sigmoid")(net))


def main(order, folder):
    import keras
    from keras import backend, layers, models

    if order == "th":
        import theano.ifelse  # noqa: F401 - Keras asks for it without importing it
    backend.set_image_data_format("channels_last" if order == "tf" else "channels_first")
    draw = np.random.RandomState(11)
    for make in (sequential, graph):
        network = make(layers, models, (9, 12, 3) if order == "tf" else (3, 9, 12))
        # nothing may be at its initial value: a zero bias or a variance of one hides a mix-up
        network.set_weights([draw.uniform(0.1, 0.9, w.shape) - 0.45 * (w.ndim > 1) for w in network.get_weights()])
        network.compile("adam", "mse")
        stem = "%s/keras2_%s_%s" % (folder, order, make.__name__)
        network.save(stem + ".h5")
        pictures = draw.uniform(-2, 2, (3,) + tuple(network.input_shape[1:])).round(4)
        answers = network.predict(pictures.astype("float32"))
        with open(stem + ".json", "w") as file:
            json.dump({"pictures": pictures.tolist(), "answers": answers.tolist()}, file)
        print(keras.__version__, stem, answers.tolist())


main(*sys.argv[1:])
