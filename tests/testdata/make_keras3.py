"""Make tiny files with a real Keras 3, or with the Keras of TensorFlow 2.12 to 2.15 in its .keras format, and its own
answers beside them.

How it was made, in throwaway environments, never in the project's:

    python3.11 -m venv scratch && scratch/bin/pip install tensorflow-cpu keras==3.12.0
    scratch/bin/python tests/testdata/make_keras3.py keras312 FOLDER

It needs nothing of Dimple. NAME.keras, or NAME.h5 with "h5" before the names, gets a NAME.json with the input and what
the file answered when it was loaded again. What a file is for is said below.
"""

import json
import sys

import keras
import numpy as np

layers = keras.layers
IS_3 = keras.__version__ >= "3"
SHAPE = (10, 12, 3)
NETWORKS = {}


def network(make):
    NETWORKS[make.__name__] = make
    return make


def functional(shape, body, **options):
    picture = layers.Input(shape, **options)
    return keras.Model(picture, body(picture))


def head(net, **options):
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D(**options)(net))


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
def sequential():
    """The first network of a course, with augmentation."""
    return keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.1),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(5, activation="gelu"),
            layers.Dense(3, activation="softmax"),
        ]
    )


@network
def nested_once():
    """A body, and a head on it."""
    parts = [layers.Input(SHAPE), body("b"), layers.Flatten(), layers.Dropout(0.2)]
    return keras.Sequential([*parts, layers.Dense(3, activation="softmax")])


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
def nested_three():
    """Three levels, partly frozen, with normalizations of the input and augmentation inside."""
    base = body("b")
    for layer in base.layers[:4]:
        layer.trainable = False
    middle = functional(SHAPE, lambda picture: layers.BatchNormalization()(base(picture, training=False)))
    outer = keras.Sequential([layers.Input(SHAPE), middle, layers.Conv2D(4, 1)])
    entrance = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(1 / 255), layers.Normalization()]
    begin = keras.Sequential([layers.Input(SHAPE), *entrance])
    return keras.Sequential([layers.Input(SHAPE), begin, outer, layers.Flatten(), layers.Dense(3)])


@network
def shared():
    """A model, a functional model, a layer and a normalization that are used twice."""
    twice = keras.Sequential([layers.Input(SHAPE), layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()])
    graph = functional(SHAPE, lambda picture: layers.Conv2D(3, 3, padding="same", activation="tanh")(picture))
    kernel = layers.Conv2D(3, 3, padding="same")

    def whole(picture):
        inner = graph(graph(kernel(kernel(picture))))
        return head(layers.Add()([twice(picture), twice(twice(inner))]))

    return functional(SHAPE, whole)


@network
def options():
    """Options of many layers."""

    def whole(picture):
        net = layers.DepthwiseConv2D(3, dilation_rate=2, depth_multiplier=2, padding="same")(picture)
        slope = {"negative_slope": 0.1} if IS_3 else {"alpha": 0.1}
        net = layers.Conv2D(6, 3, groups=2, activation=layers.LeakyReLU(**slope))(net)
        net = layers.SeparableConv2D(4, 3, dilation_rate=2, padding="same", activation="leaky_relu")(net)
        net = layers.UpSampling2D((2, 3), interpolation="bilinear")(net)
        net = layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2)(net)
        net = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(net)
        net = layers.LayerNormalization(epsilon=1e-6)(layers.LeakyReLU(**slope)(net))
        net = layers.PReLU(shared_axes=[1, 2])(layers.AveragePooling2D(3, 2, padding="same")(net))
        net = layers.Cropping2D(((1, 0), (0, 1)))(layers.ZeroPadding2D(((0, 1), (2, 0)))(net))
        squeeze = layers.GlobalMaxPooling2D(keepdims=True)(net)
        net = layers.Multiply()([net, layers.Conv2D(3, 1, activation="hard_sigmoid")(squeeze)])
        net = layers.Concatenate()([net, layers.Activation("hard_silu" if IS_3 else "swish")(net)])
        return head(layers.BatchNormalization(axis=1)(layers.ELU(0.5)(net)))

    return functional(SHAPE, whole)


@network
def activations():
    """The activations that only Keras 3 has, and its hard_sigmoid, which differs from that of Keras 2."""

    def whole(picture):
        net = layers.Conv2D(4, 3, activation="hard_sigmoid")(picture)
        for name in ("silu", "mish", "relu6", "elu", "softsign", "selu", "softplus", "exponential"):
            net = layers.Conv2D(4, 1, activation=name)(net)
        newer = ("celu", "hard_tanh", "tanh_shrink", "squareplus", "log_sigmoid")
        for name in newer if hasattr(keras.activations, "hard_tanh") else ():
            net = layers.Conv2D(4, 1, activation=name)(net)
        return head(layers.Activation("hard_silu" if IS_3 else "swish")(net))

    return functional(SHAPE, whole)


@network
def entrance():
    """Resizing, cropping, normalization and augmentation in front."""
    return keras.Sequential(
        [
            layers.Input((11, 14, 3)),
            layers.Resizing(9, 17),
            layers.CenterCrop(8, 11),
            layers.Resizing(7, 9, interpolation="nearest"),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.1),
            layers.Rescaling([1 / 127.5, 1 / 100, 1 / 80], offset=-1),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7]),
            layers.Conv2D(4, 3, activation="mish" if IS_3 else "swish"),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@network
def operations():
    """Arithmetic in the graph: of MobileNetV3, of preprocess_input, slices, and reductions."""
    ops = keras.ops

    def whole(picture):
        net = keras.applications.imagenet_utils.preprocess_input(picture, mode="caffe") / 64.0
        net = layers.Conv2D(4, 3)(net)
        net = net * (ops.relu6(net + 3.0) * (1.0 / 6.0))
        part = net[:, 1:-1, ::2]
        net = 1.0 - part * ops.sigmoid(part)
        net = ops.concatenate([net, ops.silu(net) - ops.mean(net, axis=[1, 2], keepdims=True)], axis=-1)
        net = ops.reshape(ops.transpose(net, (0, 3, 1, 2)), (-1, 8, net.shape[1] * net.shape[2]))
        net = ops.max(net, axis=-1) ** 2.0
        return layers.Dense(3, activation="softmax")(ops.squeeze(ops.expand_dims(net, 1), 1))

    return functional(SHAPE, whole)


@network
def grey_flat():
    """The first network of many courses: grey pictures without an axis for their channel."""
    dense = [layers.Dense(8, activation="relu"), layers.Dropout(0.2), layers.Dense(4, activation="softmax")]
    return keras.Sequential([layers.Input((14, 15)), layers.Flatten(), *dense])


@network
def open_size():
    """A network that takes pictures of any size, in 16 bits."""
    keras.mixed_precision.set_global_policy("mixed_float16") if not IS_3 else None
    policy = keras.DTypePolicy("mixed_float16") if hasattr(keras, "DTypePolicy") else "float32"
    made = functional(
        (None, None, 3), lambda picture: head(layers.Conv2D(4, 3, activation="relu", dtype=policy)(picture))
    )
    keras.mixed_precision.set_global_policy("float32") if not IS_3 else None
    return made


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


@network
def with_lambda():
    """Code in the file, which is refused."""
    return functional(SHAPE, lambda picture: head(layers.Lambda(lambda x: x * 2.0)(picture)))


@network
def convnext():
    """Layers that keras.applications has for itself."""
    from keras.src.applications.convnext import ConvNeXt

    depths, widths, name = [1, 1, 1, 1], [3, 4, 5, 6], "convnext_tiny"
    return ConvNeXt(depths, widths, 0.1, name=name, input_shape=(32, 32, 3), weights=None, classes=3)


def main(prefix, folder, *names):
    draw = np.random.RandomState(17)
    suffix = ".h5" if names[:1] == ("h5",) else ".keras"
    for name in names[suffix == ".h5" :] or NETWORKS:
        keras.backend.clear_session()
        made = NETWORKS[name]()
        # nothing may be at its initial value: a zero bias or a variance of one hides a mix-up
        made.set_weights([_drawn(draw, weight) for weight in made.weights])
        stem = "%s/%s_%s%s" % (folder, prefix, "legacy_" if suffix == ".h5" else "", name)
        made.save(stem + suffix)
        facts = {}
        if name != "with_lambda":
            try:
                loaded = keras.models.load_model(stem + suffix, compile=False)
            except (TypeError, ValueError):  # it does not open some of its own files: .h5 with operations, say
                loaded = made
            shape = [side or 8 for side in made.input_shape[1:]]
            pictures = draw.uniform(0, 1, [2] + shape)
            pictures = (pictures * 255).round() if name in WHOLE else pictures.round(4)
            facts = {"pictures": pictures.tolist()}
            facts["answers"] = loaded.predict(pictures.astype("float32"), verbose=0).tolist()
        with open(stem + ".json", "w") as file:
            json.dump(facts, file)
        print(stem, facts.get("answers"))


WHOLE = ("sequential", "nested_frozen", "nested_three", "entrance", "operations", "convnext")
"""Networks that take values of 0 to 255."""


def _drawn(draw, weight):
    name, shape = getattr(weight, "path", weight.name), tuple(weight.shape)
    if "count" in name:
        return np.zeros(shape)
    if "variance" in name or "gamma" in name:
        return draw.uniform(0.5, 1.5, shape)
    if len(shape) < 2:
        return draw.uniform(-0.3, 0.3, shape)
    return draw.normal(0, 1.2 / np.sqrt(np.prod(shape[:-1])), shape)


main(*sys.argv[1:])
