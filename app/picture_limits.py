"""Limits of the pictures that are decoded, apart from the other types: settings have them, and stay without NumPy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureLimits:
    """The largest picture that is decoded.

    ``pixels`` are width x height by its header; ``frames`` are those of an animation, or a file's pages, 0 for any
    number.
    """

    pixels: int = 64_000_000
    frames: int = 1000
