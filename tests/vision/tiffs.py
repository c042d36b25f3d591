"""TIFF files of every kind, written from the specifications: TIFF 6.0, its supplements, and BigTIFF."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = 0, 1, 2, 3, 4, 5, 6, 8
UINT, INT, FLOAT = 1, 2, 3


@dataclass(frozen=True)
class Tiff:
    """A kind of TIFF. ``bits`` are those of a sample; ``extra`` is the tag ExtraSamples: 0 unspecified, 1 alpha that is
    multiplied in, 2 alpha that is not."""

    photometric: int = RGB
    bits: int = 8
    order: str = "<"
    big: bool = False
    planar: int = 1
    fill: int = 1
    extra: tuple[int, ...] = ()
    sample_format: int = UINT
    compression: int = NONE
    predictor: int = 1
    tiled: bool = False
    rows_per_strip: int = 5
    tags: dict[int, tuple[int, Sequence[int]]] = field(default_factory=dict)

    def write(self, samples: NDArray[Any]) -> bytes:
        """Return a file of one picture.

        :param samples: (H, W, C), in the range of ``bits``; C counts the extra samples.
        """
        height, width, channels = samples.shape
        blocks = [self._compressed(block) for block in self._blocks(samples)]
        tags = {
            256: (4, [width]),
            257: (4, [height]),
            258: (3, [self.bits] * channels),
            259: (3, [self.compression]),
            262: (3, [self.photometric]),
            277: (3, [channels]),
        }
        if self.tiled:
            tags |= {322: (4, [16]), 323: (4, [16]), 324: (4, []), 325: (4, [len(block) for block in blocks])}
        else:
            tags |= {273: (4, []), 278: (4, [self.rows_per_strip]), 279: (4, [len(block) for block in blocks])}
        optional = {266: self.fill, 284: self.planar, 317: self.predictor}
        tags |= {tag: (3, [value]) for tag, value in optional.items() if value != 1}
        if self.sample_format != UINT:
            tags[339] = (3, [self.sample_format] * channels)
        if self.extra:
            tags[338] = (3, list(self.extra))
        if self.fill == 2:
            blocks = [_mirrored(block) for block in blocks]
        return self._file({**tags, **self.tags}, blocks)

    def _blocks(self, samples: NDArray[Any]) -> Iterator[bytes]:
        """Yield strips or tiles: of all channels together, or of one channel after the other."""
        planes = [samples] if self.planar == 1 else np.split(samples, samples.shape[2], axis=2)
        for plane in planes:
            for part in self._parts(plane):
                yield self._packed(part)

    def _parts(self, plane: NDArray[Any]) -> Iterator[NDArray[Any]]:
        height, width = plane.shape[:2]
        if not self.tiled:
            for top in range(0, height, self.rows_per_strip):
                yield plane[top : top + self.rows_per_strip]
            return
        whole = np.zeros((-(-height // 16) * 16, -(-width // 16) * 16, plane.shape[2]), plane.dtype)
        whole[:height, :width] = plane
        for top in range(0, height, 16):
            for left in range(0, width, 16):
                yield whole[top : top + 16, left : left + 16]

    def _packed(self, part: NDArray[Any]) -> bytes:
        """Pack samples: each row begins with a whole byte; within it, samples of any number of bits follow."""
        rows = part.reshape(part.shape[0], -1)
        if self.sample_format == FLOAT:
            return rows.astype(f"{self.order}f{self.bits // 8}").tobytes()
        if self.predictor == 2:
            steps = part.astype(np.int64)
            steps[:, 1:] = (steps[:, 1:] - steps[:, :-1]) % 2**self.bits
            rows = steps.reshape(rows.shape)
        if self.bits in (8, 16, 32):
            return (rows % 2**self.bits).astype(f"{self.order}u{self.bits // 8}").tobytes()
        shifts = np.arange(self.bits - 1, -1, -1)
        bits = (rows[:, :, np.newaxis] >> shifts) & 1
        return np.packbits(bits.reshape(rows.shape[0], -1).astype(np.uint8), axis=1).tobytes()

    def _compressed(self, block: bytes) -> bytes:
        how: dict[int, Callable[[bytes], bytes]] = {
            NONE: bytes,
            LZW: _lzw,
            DEFLATE: zlib.compress,
            32946: zlib.compress,
            PACKBITS: _packbits,
        }
        return how[self.compression](block)

    def _file(self, tags: dict[int, tuple[int, Sequence[int]]], blocks: list[bytes]) -> bytes:
        offset, count, header = ("Q", "Q", 16) if self.big else ("I", "H", 8)
        mark = {"<": b"II", ">": b"MM"}[self.order]
        magic = struct.pack(self.order + "HHH", 43, 8, 0) if self.big else struct.pack(self.order + "H", 42)
        places, body = [], b""
        for block in blocks:
            places.append(header + len(body))
            body += block + b"\0" * (len(block) % 2)
        tags[324 if self.tiled else 273] = (4, places)

        start = header + len(body)
        room = struct.calcsize(self.order + offset)
        values_at = start + struct.calcsize("=" + count) + len(tags) * (4 + 2 * room) + room
        entries, values = b"", b""
        for tag, (kind, numbers) in sorted(tags.items()):
            packed = struct.pack(f"{self.order}{len(numbers)}{'BHI'[(1, 3, 4).index(kind)]}", *numbers)
            if len(packed) > room:
                pointer = values_at + len(values)
                values += packed + b"\0" * (len(packed) % 2)
                packed = struct.pack(self.order + offset, pointer)
            entries += struct.pack(self.order + "HH" + offset, tag, kind, len(numbers)) + packed.ljust(room, b"\0")
        directory = struct.pack(self.order + count, len(tags)) + entries + bytes(room) + values
        return mark + magic + struct.pack(self.order + offset, start) + body + directory


def _mirrored(block: bytes) -> bytes:
    """Return the bits of each byte in reverse, as tag FillOrder 2 has them."""
    return np.packbits(np.unpackbits(np.frombuffer(block, np.uint8)), bitorder="little").tobytes()


def _packbits(block: bytes) -> bytes:
    """Encode as literal runs only, each of at most 128 bytes."""
    return b"".join(bytes([len(run) - 1]) + run for run in (block[at : at + 128] for at in range(0, len(block), 128)))


def _lzw(block: bytes) -> bytes:
    """Encode as codes of single bytes only: the table is cleared before a code would need a tenth bit."""
    codes = []
    for at in range(0, len(block), 250):
        codes += [256, *block[at : at + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
