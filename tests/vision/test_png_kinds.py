"""Every kind of PNG (ISO/IEC 15948, table 11.1): the pixels that its samples stand for, on white."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.settings import PictureLimits
from app.vision.decode import decode

from .pictures import png_chunk

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
KINDS = [
    *((GREY, bits) for bits in (1, 2, 4, 8, 16)),
    *((PALETTE, bits) for bits in (1, 2, 4, 8)),
    *((colour, bits) for colour in (RGB, GREY_ALPHA, RGB_ALPHA) for bits in (8, 16)),
]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass: its first column and row, and the steps between its columns and rows."""


def packed(samples: NDArray[Any], bits: int) -> bytes:
    """Return rows of samples, each behind its filter's number, 0 for none."""
    rows = samples.reshape(samples.shape[0], -1)
    if bits == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    shifts = np.arange(bits - 1, -1, -1)
    spread = ((rows[:, :, np.newaxis] >> shifts) & 1).reshape(len(rows), -1).astype(np.uint8)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in spread)


def write(samples: NDArray[Any], colour: int, bits: int, interlaced: bool, before: bytes) -> bytes:
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [samples[top::down, left::right] for left, top, right, down in passes]
    body = b"".join(packed(part, bits) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour, 0, 0, interlaced)
    chunks = png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", zlib.compress(body)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_every_png_type_is_decoded_to_the_colours_of_its_samples(
    colour: int, bits: int, interlaced: bool, transparent: bool
) -> None:
    chance = np.random.default_rng(bits)
    samples = chance.integers(0, 2**bits, (13, 21, CHANNELS[colour]))
    alpha: NDArray[Any] = np.ones((13, 21, 1))
    before = b""
    if colour == PALETTE:
        palette = chance.integers(0, 256, (2**bits, 3))
        colours = palette[samples[:, :, 0]] / 255
        before = png_chunk(b"PLTE", palette.astype(np.uint8).tobytes())
        if transparent:
            alphas = chance.integers(0, 256, 2**bits)
            alpha = alphas[samples] / 255
            before += png_chunk(b"tRNS", alphas.astype(np.uint8).tobytes())
    else:
        values = samples / (2**bits - 1)
        colours = values[:, :, :3] if colour in (RGB, RGB_ALPHA) else values[:, :, :1]
        if colour in (GREY_ALPHA, RGB_ALPHA):
            alpha = values[:, :, -1:]
        elif transparent:  # one colour of the picture is transparent, the others are not
            alpha = (samples != samples[5, 7]).any(axis=2, keepdims=True)
            before = png_chunk(b"tRNS", samples[5, 7].astype(">u2").tobytes())
    expected = np.broadcast_to(np.rint((colours * alpha + 1 - alpha) * 255), (13, 21, 3))
    image = decode(write(samples, colour, bits, interlaced, before), PictureLimits()).image
    assert np.abs(np.asarray(image, np.int64) - expected).max() <= 2
