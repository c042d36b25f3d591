from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.vision.duplicates import contradicting, near_identical, thumbnail
from tests.pictures import astronaut, face_crop, plain

DRAW = np.random.default_rng(7)


def noise(count: int) -> NDArray[np.uint8]:
    return DRAW.integers(0, 256, (count, 16, 16), np.uint8)


def blended(base: NDArray[np.uint8], correlation: float) -> NDArray[np.uint8]:
    """Return a thumbnail of the wanted correlation with ``base``: a sum of it and of what is orthogonal to it."""
    one = base.ravel() - base.mean()
    one /= np.linalg.norm(one)
    other = DRAW.normal(size=256)
    other -= other.mean()
    other -= (other @ one) * one
    other /= np.linalg.norm(other)
    mixed = correlation * one + np.sqrt(1 - correlation**2) * other
    return np.round(128 + 100 * mixed / np.abs(mixed).max()).astype(np.uint8).reshape(16, 16)


def test_only_pictures_with_a_correlation_above_the_limit_are_grouped() -> None:
    base = noise(1)[0]
    near, far = blended(base, 0.99), blended(base, 0.97)
    assert np.corrcoef(base.ravel(), near.ravel())[0, 1] > 0.98 > np.corrcoef(base.ravel(), far.ravel())[0, 1] > 0.96
    assert near_identical(np.stack([far, *noise(3), base, near])) == ((4, 5),)


def test_brightness_and_contrast_are_ignored() -> None:
    base = noise(1)[0]
    darker = (base // 2 + 20).astype(np.uint8)
    assert near_identical(np.stack([base, *noise(2), darker])) == ((0, 3),)


def test_a_negative_is_another_picture() -> None:
    base = noise(1)[0]
    assert near_identical(np.stack([base, 255 - base])) == ()


def test_a_chain_of_duplicates_is_one_group() -> None:
    first = noise(1)[0]
    middle = blended(first, 0.985)
    last = next(
        t for t in (blended(middle, 0.985) for _ in range(20)) if np.corrcoef(first.ravel(), t.ravel())[0, 1] < 0.979
    )
    assert near_identical(np.stack([first, last])) == ()
    assert near_identical(np.stack([first, last, middle])) == ((0, 1, 2),)


def test_flat_pictures_are_duplicates_only_if_they_have_the_same_grey() -> None:
    flat = [np.full((16, 16), grey, np.uint8) for grey in (0, 7, 0, 255, 7, 0, 9)]
    assert near_identical(np.stack([*flat, *noise(2)])) == ((0, 2, 5), (1, 4))


def test_groups_across_blocks_equal_those_of_the_full_correlation() -> None:
    thumbnails = noise(1500)
    copies = DRAW.permutation(1500)[:240].reshape(2, 120)
    thumbnails[copies[1]] = thumbnails[copies[0]]
    expected = np.argwhere(np.triu(np.corrcoef(thumbnails.reshape(1500, 256)) > 0.98, 1))
    assert len(expected) == 120
    assert sorted(near_identical(thumbnails)) == sorted(map(tuple, expected.tolist()))


def test_a_thousand_copies_are_one_group() -> None:
    copies = np.repeat(noise(1), 1000, axis=0)
    assert near_identical(np.concatenate([noise(5), copies])) == (tuple(range(5, 1005)),)


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_picture_has_no_duplicate(count: int) -> None:
    assert near_identical(noise(count)) == ()


def test_each_group_with_two_labels_is_one_contradiction() -> None:
    groups = ((0, 1), (2, 3, 4, 5), (6, 7))
    assert contradicting(groups, [0, 0, 1, 1, 0, 0, 1, 0]) == ((2, 4), (6, 7))


def test_a_resized_or_compressed_photograph_is_a_duplicate() -> None:
    portrait = astronaut()
    found = near_identical(
        np.stack([thumbnail(image) for image in (portrait, face_crop(), portrait.resize((200, 180)))])
    )
    assert found == ((0, 2),)


def test_a_thumbnail_of_one_colour_has_its_luma() -> None:
    # ITU-R BT.601: 0.299 * 200 + 0.587 * 180 + 0.114 * 40 = 170.02
    assert np.array_equal(thumbnail(plain()), np.full((16, 16), 170, np.uint8))
