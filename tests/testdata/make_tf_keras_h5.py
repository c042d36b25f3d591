"""Make tiny whole-model .h5 files with a real tf.keras, and its own answers beside them.

How it was made, in throwaway environments, never in the project's:

    python3.11 -m venv scratch && scratch/bin/pip install 'tensorflow-cpu==2.15.*'
    scratch/bin/python tests/testdata/make_tf_keras_h5.py tf215 FOLDER

    python3.8 -m venv older && older/bin/pip install 'tensorflow-cpu==2.3.*' 'protobuf<3.21' 'numpy<1.19' 'h5py<3'
    older/bin/python tests/testdata/make_tf_keras_h5.py tf23 FOLDER operations teachable

It needs nothing of Dimple. Each NAME.h5 gets a NAME.json with the input and what the file answered when it was loaded
again. What a file is for is said below.
"""

import json
import sys

import numpy as np
import tensorflow as tf

keras = tf.keras
layers = keras.layers
SHAPE = (10, 12, 3)
NETWORKS = {}


def network(make):
    NETWORKS[make.__name__] = make
    return make


def functional(shape, body, **options):
    picture = layers.Input(shape, **options)
    return keras.Model(picture, body(picture))


def head(net):
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(net))


def body(name, **options):
    """Convolutions and normalizations, as the networks of keras.applications have them."""
    picture = layers.Input(SHAPE)
    net = layers.Conv2D(4, 3, use_bias=False, name=name + "_c1")(picture)
    net = layers.BatchNormalization(name=name + "_n1", **options)(net)
    shortcut = net = layers.ReLU(6.0)(net)
    net = layers.Conv2D(4, 3, padding="same", name=name + "_c2")(net)
    net = layers.BatchNormalization(name=name + "_n2", **options)(net)
    return keras.Model(picture, layers.Add()([net, shortcut]), name=name)


@network
def nested_once():
    """A body, and a head on it."""
    return keras.Sequential([body("b"), layers.Flatten(), layers.Dropout(0.2), layers.Dense(3, activation="softmax")])


@network
def nested_frozen():
    """A frozen body of which the last layers were thawed, called as a layer without training, normalizations without
    a scale, the input normalised in the graph."""
    base = body("b", scale=False)
    base.trainable = False
    for layer in base.layers[-3:]:
        layer.trainable = True

    def whole(picture):
        return head(base(keras.applications.mobilenet_v2.preprocess_input(picture), training=False))

    return functional(SHAPE, whole)


@network
def teachable():
    """Two models in two models in one, as Teachable Machine exports them."""
    features = keras.Sequential([layers.InputLayer(SHAPE), body("b"), layers.GlobalAveragePooling2D()])
    top = keras.Sequential(
        [layers.Dense(5, activation="relu", input_shape=(4,)), layers.Dense(3, use_bias=False, activation="softmax")]
    )
    return keras.Sequential([layers.InputLayer(SHAPE), features, top])


@network
def nested_three():
    """Three levels, partly frozen, with normalizations of the input and augmentation inside."""
    base = body("b")
    for layer in base.layers[:4]:
        layer.trainable = False
    middle = functional(SHAPE, lambda picture: layers.BatchNormalization()(base(picture, training=False)))
    outer = keras.Sequential([layers.InputLayer(SHAPE), middle, layers.Conv2D(4, 1)])
    entrance = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(1 / 255), layers.Normalization()]
    begin = keras.Sequential([layers.InputLayer(SHAPE), *entrance])
    return keras.Sequential([layers.InputLayer(SHAPE), begin, outer, layers.Flatten(), layers.Dense(3)])


@network
def shared():
    """A model, a layer and a normalization that are used twice."""
    twice = keras.Sequential([layers.Conv2D(3, 3, padding="same", input_shape=SHAPE), layers.BatchNormalization()])
    kernel = layers.Conv2D(3, 3, padding="same")

    def whole(picture):
        return head(layers.Add()([twice(picture), twice(twice(kernel(kernel(picture))))]))

    return functional(SHAPE, whole)


@network
def options():
    """Options that Keras 2.2.4 does not know, or drops."""

    def whole(picture):
        net = layers.DepthwiseConv2D(3, dilation_rate=2, depth_multiplier=2, padding="same")(picture)
        net = layers.Conv2D(6, 3, groups=2, activation=layers.LeakyReLU(alpha=0.1))(net)
        net = layers.SeparableConv2D(4, 3, dilation_rate=2, padding="same", activation="leaky_relu")(net)
        net = layers.UpSampling2D((2, 3), interpolation="bilinear")(net)
        net = layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2)(net)
        net = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(net)
        net = layers.LayerNormalization(epsilon=1e-6)(net)
        net = layers.PReLU(shared_axes=[1, 2])(layers.AveragePooling2D(3, 2, padding="same")(net))
        return head(layers.BatchNormalization(axis=1)(net))

    return functional(SHAPE, whole)


@network
def entrance():
    """Resizing, cropping, normalization and augmentation in front."""
    return keras.Sequential(
        [
            layers.InputLayer((11, 14, 3)),
            layers.Resizing(9, 17),
            layers.CenterCrop(8, 11),
            layers.Resizing(7, 9, interpolation="nearest"),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.1),
            layers.Rescaling([1 / 127.5, 1 / 100, 1 / 80], offset=-1),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7]),
            layers.Conv2D(4, 3, activation="mish"),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@network
def operations():
    """Arithmetic in the graph: of MobileNetV3, of preprocess_input, and slices."""

    def whole(picture):
        net = keras.applications.imagenet_utils.preprocess_input(picture, mode="caffe") / 64.0
        net = layers.Conv2D(4, 3)(net)
        net = net * (tf.nn.relu6(net + 3.0) * (1.0 / 6.0))
        part = net[:, 1:-1, ::2] if tf.__version__ >= "2.4" else net
        return head(1.0 - part * tf.sigmoid(part))

    return functional(SHAPE, whole)


@network
def grey_flat():
    """The first network of many courses: grey pictures without an axis for their channel."""
    dense = [layers.Dense(8, activation="relu"), layers.Dropout(0.2), layers.Dense(4, activation="softmax")]
    return keras.Sequential([layers.Flatten(input_shape=(14, 15)), *dense])


@network
def grey_new_axis():
    """The same with an axis added in the graph."""
    return functional((14, 15), lambda picture: head(layers.Conv2D(3, 3)(picture[..., tf.newaxis] / 255.0)))


@network
def open_size():
    """A network that takes pictures of any size."""
    return functional((None, None, 3), lambda picture: head(layers.Conv2D(4, 3, activation="relu")(picture)))


@network
def recurrent():
    """The lines of a picture as a sequence."""

    def whole(picture):
        both = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(picture)
        both = layers.GRU(4, return_sequences=True)(layers.SimpleRNN(5, return_sequences=True, unroll=True)(both))
        return layers.Dense(3)(layers.GRU(3, reset_after=False, go_backwards=True)(both))

    return functional((6, 5), whole)


@network
def lines():
    """Convolutions along one axis."""

    def whole(picture):
        net = layers.Conv1D(4, 3, strides=2, padding="same", activation="relu")(picture)
        net = layers.AveragePooling1D(2)(layers.MaxPooling1D(3, 1, padding="same")(net))
        net = layers.TimeDistributed(layers.Dense(4))(net)
        pooled = [layers.GlobalAveragePooling1D()(net), layers.GlobalMaxPooling1D()(net)]
        return layers.Dense(3)(layers.concatenate(pooled))

    return functional((14, 15), whole)


def main(prefix, folder, *names):
    draw = np.random.RandomState(17)
    for name in names or NETWORKS:
        keras.backend.clear_session()
        made = NETWORKS[name]()
        # nothing may be at its initial value: a zero bias or a variance of one hides a mix-up
        values = [_drawn(draw, weight) for weight in made.weights]
        keras.backend.batch_set_value(list(zip(made.weights, values)))
        stem = "%s/%s_%s" % (folder, prefix, name)
        made.save(stem + ".h5", include_optimizer=False)
        loaded = keras.models.load_model(stem + ".h5", compile=False, custom_objects={"leaky_relu": tf.nn.leaky_relu})
        shape = [side or 8 for side in made.input_shape[1:]]
        pictures = draw.uniform(0, 1, [2] + shape)
        pictures = (pictures * 255).round() if name in WHOLE else pictures.round(4)
        answers = loaded.predict(pictures.astype("float32"))
        with open(stem + ".json", "w") as file:
            json.dump({"pictures": pictures.tolist(), "answers": answers.tolist()}, file)
        print(stem, answers.tolist())


WHOLE = ("nested_frozen", "nested_three", "entrance", "operations", "grey_new_axis")
"""Networks that take values of 0 to 255."""


def _drawn(draw, weight):
    name, shape = weight.name, tuple(weight.shape)
    if "count" in name:
        return np.zeros(shape)
    if "variance" in name or "gamma" in name:
        return draw.uniform(0.5, 1.5, shape)
    if len(shape) < 2:
        return draw.uniform(-0.3, 0.3, shape)
    return draw.normal(0, 1.2 / np.sqrt(np.prod(shape[:-1])), shape)


main(*sys.argv[1:])
