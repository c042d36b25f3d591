"""Every kind of TIFF that Pillow claims, and more: the right pixels, or a refusal that names the kind.

The table says which are decoded. The files are written here from the specification; the pixels are worked out from the
same samples by its formulas. tifffile reads the same samples from the files; OpenCV, through libtiff, the same colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.decode import decode

from .tiffs import (
    BLACK_IS_ZERO,
    CMYK,
    DEFLATE,
    FLOAT,
    INT,
    LAB,
    LZW,
    MASK,
    NONE,
    PACKBITS,
    PALETTE,
    RGB,
    UINT,
    WHITE_IS_ZERO,
    YCBCR,
    Tiff,
)

CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, MASK: 1, CMYK: 4, YCBCR: 3, LAB: 3}
EXTRAS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (2,), (0, 0), (1, 0), (2, 0))
SAMPLES = [
    *((photometric, bits, UINT) for photometric in (0, 1) for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32)),
    *((photometric, bits, INT) for photometric in (0, 1, 2) for bits in (8, 16, 32)),
    *((photometric, bits, FLOAT) for photometric in (0, 1, 2) for bits in (16, 32, 64)),
    *((RGB, bits, UINT) for bits in (1, 2, 4, 8, 10, 12, 16, 32)),
    *((PALETTE, bits, UINT) for bits in (1, 2, 4, 8, 16)),
    *((CMYK, bits, UINT) for bits in (8, 16)),
    *((YCBCR, bits, UINT) for bits in (8, 16)),
    (LAB, 16, UINT),
    (MASK, 1, UINT),
]
ARRANGEMENTS = [(order, planar, fill) for order in "<>" for planar in (1, 2) for fill in (1, 2)]


def is_decoded(kind: Tiff) -> bool:
    """Return whether the table states that a kind is decoded."""
    key = (kind.photometric, kind.bits, kind.sample_format)
    planes, mirrored, swapped = kind.planar == 2, kind.fill == 2, kind.order == ">"
    alpha = bool(kind.extra) and kind.extra[0] != 0
    if key in {(p, b, UINT) for p in (0, 1, PALETTE) for b in (1, 2, 4, 8)}:
        if kind.extra == (0,) and key == (PALETTE, 8, UINT):
            return planes or not mirrored
        if kind.extra == (2,) and key in ((BLACK_IS_ZERO, 8, UINT), (PALETTE, 8, UINT)):
            return not planes and not mirrored
        return not kind.extra or (planes and not alpha)
    if key in ((0, 12, UINT), (1, 12, UINT)):
        return not mirrored and not swapped and not alpha and (planes or not kind.extra)
    if key in ((0, 16, UINT), (1, 16, UINT)):
        return not (mirrored and swapped) and not alpha and (planes or not kind.extra)
    if key in ((0, 32, FLOAT), (1, 32, FLOAT)):
        return not mirrored and not alpha and (planes or not kind.extra)
    if key == (RGB, 8, UINT):
        if kind.extra in ((), (0,), (0, 0)):
            return not mirrored or planes or not kind.extra
        return not mirrored and (not planes or len(kind.extra) == 1)
    if key == (RGB, 16, UINT):
        return not mirrored and (len(kind.extra) < 2 or (planes and not alpha))
    if key == (CMYK, 8, UINT):
        return not mirrored and not alpha
    if key == (CMYK, 16, UINT):
        return not mirrored and not alpha and (planes or not kind.extra)
    return key == (YCBCR, 8, UINT) and not mirrored and not kind.extra


def variants(kind: Tiff) -> Iterator[Tiff]:
    """Yield the same samples as they may be compressed, in strips or tiles."""
    for number, compression in enumerate((NONE, LZW, DEFLATE, PACKBITS)):
        yield replace(kind, compression=compression, tiled=number % 2 == kind.fill % 2)
        if compression in (LZW, DEFLATE) and kind.bits in (8, 16) and kind.sample_format == UINT:
            yield replace(kind, compression=compression, predictor=2)


def samples_of(kind: Tiff) -> NDArray[Any]:
    """Return random samples, (19, 37, C); premultiplied samples are no larger than alpha."""
    chance = np.random.default_rng(kind.bits)
    colours = CHANNELS[kind.photometric]
    values = chance.random((19, 37, colours + len(kind.extra)))
    if kind.extra[:1] == (1,):
        values[:, :, :colours] *= values[:, :, colours : colours + 1]
    if kind.sample_format == FLOAT:
        return values
    whole = np.floor(values * (2**kind.bits - 1) + 1e-9).astype(np.int64)
    return whole - 2 ** (kind.bits - 1) if kind.sample_format == INT else whole


def colours_of(kind: Tiff, samples: NDArray[Any], palette: NDArray[Any]) -> NDArray[np.int64]:
    """Return the colours on white of the samples by TIFF 6.0, (19, 37, 3)."""
    values = samples / (1 if kind.sample_format == FLOAT else 2**kind.bits - 1)
    count = CHANNELS[kind.photometric]
    colour = values[:, :, :count]
    if kind.photometric == WHITE_IS_ZERO:
        colour = 1 - colour
    elif kind.photometric == PALETTE:
        colour = palette[samples[:, :, 0]] / 255
    elif kind.photometric == CMYK:
        colour = (1 - colour[:, :, :3]) * (1 - colour[:, :, 3:])
    elif kind.photometric == YCBCR:  # with TIFF's own coefficients, those of ITU-R BT.601
        luma, blue, red = colour[:, :, 0], colour[:, :, 1] - 128 / 255, colour[:, :, 2] - 128 / 255
        colour = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 2)
    if kind.extra[:1] in ((1,), (2,)):
        alpha = values[:, :, count : count + 1]
        colour = (colour if kind.extra[0] == 1 else colour * alpha) + 1 - alpha
    whole: NDArray[np.int64] = np.rint(np.broadcast_to(colour.clip(0, 1), (19, 37, 3)) * 255).astype(np.int64)
    return whole


@pytest.mark.parametrize(("photometric", "bits", "sample_format"), SAMPLES)
def test_every_sample_type_is_decoded_correctly_or_refused_by_name(
    photometric: int, bits: int, sample_format: int
) -> None:
    palette = np.random.default_rng(1).integers(0, 256, (2**bits, 3)) if photometric == PALETTE else np.zeros((1, 3))
    tags = {PALETTE: {320: (3, [int(item) * 257 for item in palette.T.ravel()])}, YCBCR: {530: (3, [1, 1])}}
    for extra in EXTRAS:
        for order, planar, fill in ARRANGEMENTS:
            kind = Tiff(photometric, bits, order, False, planar, fill, extra, sample_format)
            kind = replace(kind, tags=tags.get(photometric, {}))
            samples = samples_of(kind)
            if not is_decoded(kind):
                with pytest.raises(InvalidImage, match=r"it is a TIFF of .*-bit samples .* not supported"):
                    decode(kind.write(samples), PictureLimits())
                continue
            expected = colours_of(kind, samples, palette)
            for variant in variants(kind):
                found = np.asarray(decode(variant.write(samples), PictureLimits()).image, np.int64)
                # alpha that is multiplied in is divided out again by Pillow, which loses what is nearly transparent
                share = 0.97 if extra[:1] == (1,) else 1
                assert (np.abs(found - expected).max(axis=2) <= 3).mean() >= share, variant


@dataclass(frozen=True)
class Subsampled(Tiff):
    """YCbCr whose chroma are shared by ``across`` x ``down`` pixels (TIFF 6.0, section 21)."""

    across: int = 1
    down: int = 1

    def _blocks(self, samples: NDArray[Any]) -> Iterator[bytes]:
        height, width = samples.shape[:2]
        rows, columns = np.minimum(np.arange(height + 3), height - 1), np.minimum(np.arange(width + 3), width - 1)
        for top in range(0, height, self.rows_per_strip):
            units = [
                samples[np.ix_(rows[y : y + self.down], columns[x : x + self.across], [0])].tobytes()
                + samples[y, x, 1:].tobytes()
                for y in range(top, min(top + self.rows_per_strip, height), self.down)
                for x in range(0, width, self.across)
            ]
            yield b"".join(units)


@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE])
@pytest.mark.parametrize("size", [(32, 48), (43, 73), (19, 37)])
@pytest.mark.parametrize("shared", [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (2, 4), (3, 3)])
def test_subsampled_chroma_is_decoded_correctly_or_refused(
    shared: tuple[int, int], size: tuple[int, int], compression: int
) -> None:
    across, down = shared
    y, x = np.mgrid[: size[0], : size[1]]
    luma, blue, red = 60 + (3 * x + 2 * y) % 128, 100 + 3 * (x // across) % 50, 110 + 5 * (y // down) % 40
    samples = np.stack([luma, blue, red], axis=2).astype(np.uint8)
    tags = {530: (3, shared)}
    data = Subsampled(YCBCR, compression=compression, rows_per_strip=8, tags=tags, across=across, down=down).write(
        samples
    )
    if shared in ((2, 4), (3, 3)) or (shared == (4, 4) and size != (32, 48)):
        with pytest.raises(InvalidImage, match=f"{across} x {down} subsampled.*not supported"):
            decode(data, PictureLimits())
        return
    found = np.asarray(decode(data, PictureLimits()).image, np.int64)
    blue, red = blue - 128, red - 128
    expected = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 2)
    assert np.abs(found - expected.clip(0, 255)).max() <= 2


def test_lab_is_converted_from_print_white_to_screen_white() -> None:
    # Adobe's note on CIELAB in TIFF: L* of 0-100 in 0-255, a* and b* signed. The colours are sRGB's own primaries and
    # greys as Bruce Lindbloom's calculator gives them for D50: red is (54.3, 80.8, 69.9), green (87.8, -79.3, 81.0).
    samples = np.array([[(138, 81, 70), (224, -79 % 256, 81), (255, 0, 0), (136, 0, 0), (0, 0, 0)]])
    found = np.asarray(decode(Tiff(LAB).write(samples), PictureLimits()).image, np.int64)[0]
    assert np.abs(found - [(255, 0, 0), (0, 255, 0), (255, 255, 255), (127, 127, 127), (0, 0, 0)]).max() <= 16


@pytest.mark.parametrize("big", [False, True])
def test_classic_and_big_files_are_read_alike(big: bool) -> None:
    samples = samples_of(Tiff())
    found = decode(Tiff(big=big).write(samples), PictureLimits())
    assert np.array_equal(np.asarray(found.image), samples)


@pytest.mark.parametrize("mark", [b"MM\0+", b"MM*\0", b"II\0*", b"II+\1"])
def test_unsupported_headers_are_refused(mark: bytes) -> None:
    data = Tiff(order=">", big=mark == b"MM\0+").write(samples_of(Tiff()))
    with pytest.raises(InvalidImage, match=r"big-endian BigTIFF|starts like a TIFF file"):
        decode(mark + data[4:], PictureLimits())


@pytest.mark.parametrize("compression", [33003, 34712, 34892, 50001, 50002, 65000])
def test_an_unsupported_compression_is_named(compression: int) -> None:
    data = Tiff(tags={259: (3, [compression])}).write(samples_of(Tiff()))
    with pytest.raises(InvalidImage, match=f"compression {compression}, which is not supported"):
        decode(data, PictureLimits())
