"""TensorFlow's arithmetic in Keras-MXNet, for the files whose weights were learned over TensorFlow.

Keras-MXNet builds other sums than TensorFlow in three places, and says nothing of it:

- normalisations: MXNet's BatchNorm takes the scale as 1 unless told otherwise (``fix_gamma``), whatever was learned;
- ``same`` padding that cannot be shared out evenly (even windows, most strides of 2): the odd line goes before the
  picture, in TensorFlow behind it, so all that follows is shifted by a pixel;
- ``same`` average pooling counts the padding as zeros; TensorFlow leaves it out.

A file of Keras-MXNet's own was learned with MXNet's sums and keeps them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

LOWEST = -3.0e38  # padding that no maximum picks; float32 ends at -3.4e38


@contextlib.contextmanager
def tensorflow_arithmetic(backend: Any) -> Iterator[None]:
    """Let the layers that are built meanwhile compute as TensorFlow does. One thread at a time may be in here.

    :param backend: the module ``keras.backend``.
    """
    ours = {
        "mxnet_batchnorm": _normalise(backend),
        "conv2d": _padded(backend, backend.conv2d, _kernel_first),
        "depthwise_conv2d": _padded(backend, backend.depthwise_conv2d, _kernel_first),
        "separable_conv2d": _padded(backend, backend.separable_conv2d, _kernel_first),
        "pool2d": _pool(backend),
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
        return _call(
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


def _call(backend: Any, inputs: list[Any], operation: str, *args: Any, **options: Any) -> Any:
    """Apply one of MXNet's operations as Keras's backend does, which then finds the inputs' weights by itself."""
    import mxnet as mx
    from keras.backend import mxnet_backend

    @mxnet_backend.keras_mxnet_symbol  # type: ignore[untyped-decorator]
    def apply(*_: Any) -> Any:
        return mxnet_backend.KerasSymbol(getattr(mx.sym, operation)(*args, **options))

    return apply(*inputs)


def _padded(backend: Any, compute: Any, window_of: Any) -> Any:
    def convolve(x: Any, *kernels: Any, padding: str = "valid", data_format: str | None = None, **options: Any) -> Any:
        if padding == "same":
            data_format = data_format or backend.image_data_format()
            window = window_of(kernels, data_format, compute.__name__)
            strides, dilation = options.get("strides", (1, 1)), options.get("dilation_rate", (1, 1))
            x, padding = _pad(backend, x, window, strides, dilation, data_format, 0.0), "valid"
        return compute(x, *kernels, padding=padding, data_format=data_format, **options)

    return convolve


def _kernel_first(kernels: tuple[Any, ...], data_format: str, name: str) -> tuple[int, int]:
    """Height and width of the first kernel: (H, W, in, out), or (out, in, H, W) channels first."""
    shape = tuple(kernels[0].shape)
    return shape[2:] if data_format == "channels_first" and name == "conv2d" else shape[:2]


def _pool(backend: Any) -> Any:
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
        pooled = compute(_pad(backend, x, pool_size, strides, (1, 1), data_format, fill), pool_size, **options)
        if pool_mode == "max":
            return pooled
        return pooled * backend.variable(_shares(backend, x, pool_size, strides, data_format))

    return pool


def _pad(backend: Any, x: Any, window: Any, strides: Any, dilation: Any, data_format: str, fill: float) -> Any:
    first = 1 if data_format == "channels_last" else 2
    sides = backend.int_shape(x)[first : first + 2]
    down, across = (_share(*numbers) for numbers in zip(sides, window, strides, dilation, strict=True))
    if not any(down + across):
        return x
    # MXNet pads the last two axes of four, and only those
    order = (0, 3, 1, 2) if data_format == "channels_last" else (0, 1, 2, 3)
    back = (0, 2, 3, 1) if data_format == "channels_last" else (0, 1, 2, 3)
    x = backend.permute_dimensions(x, order)
    x = _call(
        backend, [x], "Pad", x.symbol, mode="constant", pad_width=(0, 0, 0, 0, *down, *across), constant_value=fill
    )
    return backend.permute_dimensions(x, back)


def _shares(backend: Any, x: Any, window: Any, strides: Any, data_format: str) -> Any:
    """By how much an average over padding's zeros is to be raised: the window's cells by those inside the picture."""
    first = 1 if data_format == "channels_last" else 2
    down, across = (
        _inside(*numbers) for numbers in zip(backend.int_shape(x)[first : first + 2], window, strides, strict=True)
    )
    cells = np.float32(window[0] * window[1]) / np.outer(down, across).astype(np.float32)
    return cells[np.newaxis, :, :, np.newaxis] if data_format == "channels_last" else cells[np.newaxis, np.newaxis]


def _inside(side: int, window: int, stride: int) -> list[int]:
    """How many lines of the picture each place of a window covers, along one side."""
    before, _ = _share(side, window, stride, 1)
    starts = [place * stride - before for place in range(-(-side // stride))]
    return [min(start + window, side) - max(start, 0) for start in starts]


def _share(side: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """Lines of padding before and behind a side, as TensorFlow shares them out: the odd one goes behind."""
    places = -(-side // stride)
    total = max((places - 1) * stride + dilation * (window - 1) + 1 - side, 0)
    return total // 2, total - total // 2
