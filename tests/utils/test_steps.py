"""The position of the current item."""

from __future__ import annotations

import contextlib

from app.utils.progress import item, position


def test_each_item_knows_its_position() -> None:
    positions = []
    for number in (1, 2):
        with item(number, 2):
            positions.append(position())
    assert positions == ["1/2", "2/2"]


def test_there_is_no_position_outside_an_item_even_after_an_error() -> None:
    with contextlib.suppress(ValueError), item(1, 3):
        raise ValueError
    assert not position()
