"""Make tiny ``.h5`` files with a real Keras 1.2.2 over TensorFlow 1.15 or Theano 1.0.5, and its answers beside them.

How it was made, in throwaway environments, never in the project's:

    python3.7 -m venv scratch
    scratch/bin/pip install tensorflow==1.15.5 theano==1.0.5 protobuf==3.20.3 numpy==1.18.5 h5py==2.10.0 keras==1.2.2
    KERAS_BACKEND=tensorflow scratch/bin/python tests/testdata/make_keras1_h5.py tf FOLDER
    KERAS_BACKEND=theano THEANO_FLAGS=cxx= scratch/bin/python tests/testdata/make_keras1_h5.py th FOLDER

It needs nothing of Dimple. Each NAME.h5 gets a NAME.json with the input and what Keras answered to it.
"""

import json
import sys

import numpy as np


def sequential(layers, models, shape):
    """Layers whose options Keras 2 calls otherwise, with sides that all differ."""
    return models.Sequential(
        [
            layers.ZeroPadding2D((1, 2), input_shape=shape),
            layers.Convolution2D(4, 3, 2, activation="relu"),
            layers.Convolution2D(5, 3, 3, subsample=(2, 2), border_mode="same", bias=False),
            layers.BatchNormalization(mode=0, axis=-1 if shape[2] == 3 else 1),
            layers.Activation("relu"),
            layers.MaxPooling2D((2, 2), strides=(2, 2), border_mode="same"),
            layers.AveragePooling2D((3, 3), strides=(1, 1), border_mode="same"),
            layers.SpatialDropout2D(0.3),
            layers.Flatten(),
            layers.Dense(6, activation="softplus"),
            layers.Dropout(0.5),
            layers.Dense(3),
            layers.Activation("softmax"),
        ]
    )


def graph(layers, models, shape):
    """Branches, a sum and a concatenation by the ``Merge`` layer, as Keras 1 has them."""
    channels = 3 if shape[2] == 3 else 1
    picture = layers.Input(shape=shape)
    left = layers.Convolution2D(4, 3, 3, border_mode="same")(picture)
    right = layers.AtrousConvolution2D(4, 3, 3, atrous_rate=(2, 2), border_mode="same")(picture)
    both = layers.merge([left, right], mode="sum")
    both = layers.merge([both, picture], mode="concat", concat_axis=channels)
    both = layers.merge([both, both], mode="mul")
    both = layers.LeakyReLU(alpha=0.2)(both)
    both = layers.GlobalAveragePooling2D()(both)
    return models.Model(input=picture, output=layers.Dense(1, activation="sigmoid")(both))


def main(order, folder):
    import keras
    from keras import backend, layers, models

    if order == "th":
        import theano.ifelse  # noqa: F401 - Keras 1 asks for it without importing it
    backend.set_image_dim_ordering(order)
    draw = np.random.RandomState(11)
    for make in (sequential, graph):
        network = make(layers, models, (9, 12, 3) if order == "tf" else (3, 9, 12))
        # nothing may be at its initial value: a zero bias or a variance of one hides a mix-up
        network.set_weights([draw.uniform(0.1, 0.9, w.shape) - 0.45 * (w.ndim > 1) for w in network.get_weights()])
        network.compile("adam", "mse")
        stem = "%s/keras1_%s_%s" % (folder, order, make.__name__)
        network.save(stem + ".h5")
        pictures = draw.uniform(-2, 2, (3,) + tuple(network.input_shape[1:])).round(4)
        answers = network.predict(pictures.astype("float32"))
        with open(stem + ".json", "w") as file:
            json.dump({"pictures": pictures.tolist(), "answers": answers.tolist()}, file)
        if order == "tf" and make is sequential:
            network.save_weights(stem + "_weights.h5")
            with open(stem + "_weights_model.json", "w") as file:
                file.write(network.to_json())
        print(keras.__version__, stem, answers.tolist())


main(*sys.argv[1:])
