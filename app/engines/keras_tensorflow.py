"""TensorFlow's arithmetic in Keras-MXNet, for the files whose weights were learned over TensorFlow.

Keras-MXNet builds other sums than TensorFlow in three places, and says nothing of it:

- normalisations: MXNet's BatchNorm takes the scale as 1 unless told otherwise (``fix_gamma``), whatever was learned;
- ``same`` padding that cannot be shared out evenly (even windows, most strides of 2): the odd line goes before the
  picture, in TensorFlow behind it, so all that follows is shifted by a pixel;
- ``same`` average pooling counts the padding as zeros; TensorFlow leaves it out.

A file of Keras-MXNet's own was learned with MXNet's sums and keeps them. What was learned over Theano differs from
TensorFlow only in where ``same`` padding goes. Convolutions by depth with more than one filter for each channel, which
Keras-MXNet refuses, are written as MXNet's grouped ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

LOWEST = -3.0e38  # padding that no maximum picks; float32 ends at -3.4e38

Before = Callable[[int], int]
"""Gives the lines of padding before a side for a window; TensorFlow's depend on more than the window."""


@contextlib.contextmanager
def tensorflow_arithmetic(backend: Any, theano: bool = False) -> Iterator[None]:
    """Let the layers that are built meanwhile compute as TensorFlow does. One thread at a time may be in here.

    :param backend: the module ``keras.backend``.
    :param theano: pad as Theano does.
    """
    before = _half if theano else None
    ours = {
        "mxnet_batchnorm": _normalise(backend),
        "conv2d": _padded(backend, backend.conv2d, before),
        "depthwise_conv2d": _padded(backend, _depthwise(backend), before),
        "separable_conv2d": _padded(backend, _separable(backend), before),
        "pool2d": _pool(backend, _theano_pool if theano else None),
    }
    theirs = {name: getattr(backend, name) for name in ours}
    try:
        vars(backend).update(ours)
        yield
    finally:
        vars(backend).update(theirs)


def _normalise(backend: Any) -> Any:
    def normalise(
        x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, momentum: float, axis: int, epsilon: float, **_: Any
    ) -> Any:
        inputs = [one.symbol for one in (x, gamma, beta, mean, variance)]
        return call(
            backend,
            [x, gamma, beta, mean, variance],
            "BatchNorm",
            *inputs,
            momentum=momentum,
            axis=axis % backend.ndim(x),
            eps=epsilon,
            fix_gamma=False,
            use_global_stats=True,
        )

    return normalise


def call(backend: Any, inputs: list[Any], operation: str, *args: Any, **options: Any) -> Any:
    """Apply one of MXNet's operations as Keras's backend does, which then finds the inputs' weights by itself."""
    import mxnet as mx
    from keras.backend import mxnet_backend

    @mxnet_backend.keras_mxnet_symbol  # type: ignore[untyped-decorator]
    def apply(*_: Any) -> Any:
        return mxnet_backend.KerasSymbol(getattr(mx.sym, operation)(*args, **options))

    return apply(*inputs)


def _half(window: int) -> int:
    """Theano's padding of a convolution, ``half``."""
    return window // 2


def _theano_pool(window: int) -> int:
    """The padding that Keras gives Theano's pooling."""
    return window - 2 if window > 2 and window % 2 else window - 1


def _depthwise(backend: Any) -> Any:
    compute = backend.depthwise_conv2d

    def depthwise_conv2d(
        x: Any, kernel: Any, strides: Any = (1, 1), padding: str = "valid", data_format: Any = None, **options: Any
    ) -> Any:
        """Take a kernel (H, W, in, multiplier), or (in, multiplier, H, W) channels first, as Keras-MXNet has them."""
        first = (data_format or backend.image_data_format()) == "channels_first"
        ordered = kernel if first else backend.permute_dimensions(kernel, (2, 3, 0, 1))
        channels, multiplier, *window = ordered.shape
        if multiplier == 1:
            return compute(x, kernel, strides=strides, padding=padding, data_format=data_format, **options)
        maps = x if first else backend.permute_dimensions(x, (0, 3, 1, 2))
        grouped = backend.reshape(ordered, (channels * multiplier, 1, *window))
        made = call(
            backend,
            [maps, grouped],
            "Convolution",
            maps.symbol,
            grouped.symbol,
            kernel=tuple(window),
            stride=tuple(strides),
            dilate=tuple(options.get("dilation_rate", (1, 1))),
            num_filter=channels * multiplier,
            num_group=channels,
            no_bias=True,
        )
        return made if first else backend.permute_dimensions(made, (0, 2, 3, 1))

    return depthwise_conv2d


def _separable(backend: Any) -> Any:
    compute, convolve, filter_depth = backend.separable_conv2d, backend.conv2d, _depthwise(backend)

    def separable_conv2d(x: Any, depthwise: Any, pointwise: Any, data_format: Any = None, **options: Any) -> Any:
        first = (data_format or backend.image_data_format()) == "channels_first"
        if first or depthwise.shape[3] == 1:
            return compute(x, depthwise, pointwise, data_format=data_format, **options)
        filtered = filter_depth(x, depthwise, data_format=data_format, **options)
        return convolve(filtered, pointwise, padding="valid", data_format=data_format)

    return separable_conv2d


def _padded(backend: Any, compute: Any, before: Before | None) -> Any:
    def convolve(x: Any, *kernels: Any, padding: str = "valid", data_format: str | None = None, **options: Any) -> Any:
        if padding == "same":
            data_format = data_format or backend.image_data_format()
            window = _kernel_first(kernels, data_format, compute.__name__)
            strides, dilation = options.get("strides", (1, 1)), options.get("dilation_rate", (1, 1))
            x, padding = _pad(backend, x, window, strides, dilation, data_format, 0.0, before), "valid"
        return compute(x, *kernels, padding=padding, data_format=data_format, **options)

    return convolve


def _kernel_first(kernels: tuple[Any, ...], data_format: str, name: str) -> tuple[int, int]:
    """Height and width of the first kernel: (H, W, in, out), or (out, in, H, W) channels first."""
    shape = tuple(kernels[0].shape)
    return shape[2:] if data_format == "channels_first" and name == "conv2d" else shape[:2]


def _pool(backend: Any, before: Before | None) -> Any:
    compute = backend.pool2d

    def pool(
        x: Any,
        pool_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: Any = None,
        pool_mode: str = "max",
    ) -> Any:
        data_format = data_format or backend.image_data_format()
        options = {"strides": strides, "padding": "valid", "data_format": data_format, "pool_mode": pool_mode}
        if padding != "same":
            return compute(x, pool_size, **options)
        fill = LOWEST if pool_mode == "max" else 0.0
        padded = _pad(backend, x, pool_size, strides, (1, 1), data_format, fill, before)
        pooled = compute(padded, pool_size, **options)
        if pool_mode == "max":
            return pooled
        return pooled * backend.variable(_shares(backend, x, pool_size, strides, data_format, before))

    return pool


def _pad(
    backend: Any,
    x: Any,
    window: Any,
    strides: Any,
    dilation: Any,
    data_format: str,
    fill: float,
    before: Before | None,
) -> Any:
    first = 1 if data_format == "channels_last" else 2
    sides = backend.int_shape(x)[first : first + 2]
    down, across = (_share(*numbers, before) for numbers in zip(sides, window, strides, dilation, strict=True))
    if not any(down + across):
        return x
    # MXNet pads the last two axes of four, and only those
    order = (0, 3, 1, 2) if data_format == "channels_last" else (0, 1, 2, 3)
    back = (0, 2, 3, 1) if data_format == "channels_last" else (0, 1, 2, 3)
    x = backend.permute_dimensions(x, order)
    x = call(
        backend, [x], "Pad", x.symbol, mode="constant", pad_width=(0, 0, 0, 0, *down, *across), constant_value=fill
    )
    return backend.permute_dimensions(x, back)


def _shares(backend: Any, x: Any, window: Any, strides: Any, data_format: str, before: Before | None) -> Any:
    """By how much an average over padding's zeros is to be raised: the window's cells by those inside the picture."""
    first = 1 if data_format == "channels_last" else 2
    down, across = (
        _inside(*numbers, before)
        for numbers in zip(backend.int_shape(x)[first : first + 2], window, strides, strict=True)
    )
    cells = np.float32(window[0] * window[1]) / np.outer(down, across).astype(np.float32)
    return cells[np.newaxis, :, :, np.newaxis] if data_format == "channels_last" else cells[np.newaxis, np.newaxis]


def _inside(side: int, window: int, stride: int, before: Before | None) -> list[int]:
    """How many lines of the picture each place of a window covers, along one side."""
    start, _ = _share(side, window, stride, 1, before)
    starts = [place * stride - start for place in range(-(-side // stride))]
    return [min(one + window, side) - max(one, 0) for one in starts]


def _share(side: int, window: int, stride: int, dilation: int, before: Before | None) -> tuple[int, int]:
    """Lines of padding before and behind a side. TensorFlow shares out what is needed; the odd line goes behind."""
    places, reach = -(-side // stride), dilation * (window - 1) + 1
    total = max((places - 1) * stride + reach - side, 0)
    start = before(reach) if before else total // 2
    return start, max(total - start, 0)
