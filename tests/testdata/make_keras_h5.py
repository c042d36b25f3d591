"""Make tiny whole-model .h5 files with a real Keras 2 over TensorFlow, and its own answers beside them.

Run it in a throwaway environment, never in the project's:

    python make_keras_h5.py keras FOLDER      standalone Keras 2.2.4 over TensorFlow 1.15
    python make_keras_h5.py tf.keras FOLDER   the Keras inside TensorFlow 2.15

It needs nothing of Dimple. Each NAME.h5 gets a NAME.json with the input and what Keras answered to it.
"""

import json
import sys

import numpy as np


def sequential(keras):
    """Everything whose order of axes can be got wrong in a plain network, with sides that all differ."""
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Conv2D(4, (3, 2), strides=(2, 2), padding="same", activation="relu", input_shape=(9, 12, 3)),
            layers.BatchNormalization(),
            layers.MaxPooling2D((2, 2)),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
            layers.BatchNormalization(scale=False),
            layers.Dense(3, activation="softmax"),
        ]
    )


def branches(keras):
    """A graph: branches, a sum, a concatenation, padding, averages."""
    layers = keras.layers
    picture = layers.Input(shape=(8, 10, 3))
    left = layers.Conv2D(4, (3, 3), padding="same", use_bias=False)(picture)
    left = layers.BatchNormalization()(left)
    left = layers.Activation("relu")(left)
    right = layers.Conv2D(4, (1, 1), activation="tanh")(picture)
    both = layers.add([left, right])
    both = layers.concatenate([both, picture])
    both = layers.ZeroPadding2D(((1, 0), (0, 1)))(both)
    both = layers.AveragePooling2D((3, 3), strides=(2, 2), padding="same")(both)
    both = layers.LeakyReLU(alpha=0.2)(both)
    both = layers.GlobalAveragePooling2D()(both)
    return keras.models.Model(picture, layers.Dense(1, activation="sigmoid")(both))


def depthwise(keras):
    """MobileNet's kind of convolution."""
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.DepthwiseConv2D((3, 3), padding="same", input_shape=(6, 7, 3)),
            layers.ReLU(max_value=6.0),
            layers.SeparableConv2D(4, (3, 3)),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def nested(keras):
    """A model inside a model, as transfer learning makes it."""
    layers = keras.layers
    inner = keras.models.Sequential(
        [
            layers.Conv2D(4, (3, 3), input_shape=(6, 7, 3)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
        ]
    )
    return keras.models.Sequential([inner, layers.Flatten(), layers.Dense(2, activation="softmax")])


def newer(keras):
    """Layers and activations that came after Keras 2.2.4; only tf.keras has them."""
    layers = keras.layers
    picture = layers.Input(shape=(10, 12, 3))
    net = layers.Rescaling([0.5, 1.0, 2.0], offset=0.1)(picture)
    net = layers.Normalization()(net)
    net = layers.RandomFlip()(net)
    net = layers.Conv2D(4, (3, 3), strides=(2, 2), padding="same", activation="swish")(net)
    net = layers.SpatialDropout2D(0.3)(net)
    net = layers.DepthwiseConv2D((3, 3), padding="same", depth_multiplier=2, activation="gelu")(net)
    net = layers.SeparableConv2D(6, (3, 3), depth_multiplier=3, activation="relu6")(net)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(net)
    gate = layers.Conv2D(6, (1, 1), activation="sigmoid")(gate)
    net = layers.GlobalMaxPooling2D()(layers.multiply([net, gate]))
    return keras.models.Model(picture, layers.Dense(3, activation="softmax")(net))


def with_lambda(keras):
    """What must be refused."""
    return keras.models.Sequential(
        [keras.layers.Lambda(lambda x: x * 2, input_shape=(2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )


def channels_first(keras):
    """A kernel of 3 x 3 x 3 x 3, whose shape does not tell its order of axes. TensorFlow computes it on a GPU only, so
    the answers are those of the same network with the channels last, as main() has it."""
    return _square(keras, "channels_first", (3, 9, 12))


def _square(keras, order, shape):
    layers = keras.layers
    return keras.models.Sequential(
        [
            layers.Conv2D(3, (3, 3), data_format=order, input_shape=shape),
            layers.Flatten(data_format=order),
            layers.Dense(2),
        ]
    )


def main(which, folder):
    if which == "keras":
        import keras
    else:
        from tensorflow import keras
    draw = np.random.RandomState(7)
    for make in (sequential, branches, depthwise, nested, with_lambda):
        save(keras, make, which, folder, draw)
    if which == "tf.keras":
        first, last = channels_first(keras), _square(keras, "channels_last", (9, 12, 3))
        weights = [draw.uniform(-0.5, 0.5, w.shape) for w in first.get_weights()]
        first.set_weights(weights)
        last.set_weights(weights)
        stem = folder + "/tf_keras_channels_first"
        first.save(stem + ".h5", include_optimizer=False)
        write_answers(last, draw.uniform(0, 1, (2, 9, 12, 3)).round(4), stem, (0, 3, 1, 2))
        save(keras, newer, which, folder, draw)


def save(keras, make, which, folder, draw):
    keras.backend.clear_session()
    network = make(keras)
    # nothing may be at its initial value: a zero bias or a variance of one hides a mix-up
    network.set_weights([draw.uniform(0.1, 0.9, w.shape) - 0.4 * (w.ndim > 1) for w in network.get_weights()])
    network.compile("adam", "mse")  # most files in the world carry an optimizer
    stem = "%s/%s_%s" % (folder, which.replace(".", "_"), make.__name__)
    network.save(stem + ".h5", include_optimizer=make is sequential)
    write_answers(network, draw.uniform(0, 1, (3,) + tuple(network.input_shape[1:])).round(4), stem, (0, 1, 2, 3))


def write_answers(network, pictures, stem, order):
    answers = network.predict(pictures.astype("float32"))
    with open(stem + ".json", "w") as file:
        json.dump({"pictures": pictures.transpose(order).tolist(), "answers": answers.tolist()}, file)
    print(stem, answers.tolist())


main(*sys.argv[1:])
