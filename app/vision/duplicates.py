"""Near-identical pictures, found by thumbnails: copies, re-encoded or slightly cropped ones, neighbours in a film."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from app.types import FloatArray

Thumbnails = NDArray[np.uint8]
Group = tuple[int, ...]

SIDE = 16
SIMILAR = 0.98
_BLOCK = 512  # rows at a time: with 13,000 pictures their correlations take 27 MB


def thumbnail(image: Image.Image) -> Thumbnails:
    """Return a thumbnail of a picture, small enough to retain only its overall look.

    :returns: (16, 16), grey 0-255.
    """
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def near_identical(thumbnails: Thumbnails) -> tuple[Group, ...]:
    """Group the pictures whose thumbnails correlate by more than 0.98.

    Two pictures that are near-identical to the same third picture are in the same group. A flat picture correlates with
    nothing; it is grouped with the flat pictures of the same grey.

    Why 0.98: of SMILEsmileD's 70 million pairs 9 are above it. All of these look like the same photograph, and the
    lowest is at 0.987; the next pair, two different people, is at 0.972.

    :param thumbnails: (N, 16, 16), grey 0-255.
    :returns: the positions of the members of every group of two or more, ascending.
    """
    pixels = thumbnails.reshape(len(thumbnails), SIDE * SIDE)
    group = _equal_if_flat(pixels)
    vectors = _normalised(pixels)
    for start in range(0, len(vectors), _BLOCK):
        correlation = vectors[start : start + _BLOCK] @ vectors[start:].T
        first, second = np.nonzero(correlation > SIMILAR)
        group = _union(group, first + start, second + start)
    return _members(group)


def contradicting(groups: Iterable[Group], classes: Sequence[int] | NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Return one pair of pictures for every group with two labels: its first, and the first of another class."""
    pairs = []
    for first, *others in groups:
        against = [member for member in others if classes[member] != classes[first]]
        pairs += [(first, member) for member in against[:1]]
    return tuple(pairs)


def _normalised(pixels: Thumbnails) -> FloatArray:
    """Return rows of zero mean and unit length, whose products are correlations; flat rows are all zeros."""
    vectors = pixels.astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=_varied(pixels)[:, np.newaxis])


def _varied(pixels: Thumbnails) -> NDArray[np.bool_]:
    return np.asarray(pixels.min(axis=1) != pixels.max(axis=1))


def _equal_if_flat(pixels: Thumbnails) -> NDArray[Any]:
    """Return every picture's own position; for a flat picture, that of the first flat picture of the same grey."""
    group = np.arange(len(pixels))
    flat = np.flatnonzero(~_varied(pixels))
    _, first, which = np.unique(pixels[flat, 0], return_index=True, return_inverse=True)
    group[flat] = flat[first][which]
    return group


def _union(group: NDArray[Any], left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the groups, named by their first members, after merging the groups of ``left[i]`` and ``right[i]``.

    The merge is done block by block, because the pairs of a thousand copies of one picture would fill the memory.
    """
    count = len(group)
    rows, columns = np.concatenate([np.arange(count), left]), np.concatenate([group, right])
    graph = csr_matrix((np.ones(len(rows), np.bool_), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return np.asarray(first[component])


def _members(group: NDArray[Any]) -> tuple[Group, ...]:
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order])) + 1
    return tuple(tuple(members.tolist()) for members in np.split(order, starts) if len(members) > 1)
