"""The position in a list."""

from __future__ import annotations

from app.utils.steps import numbered, position


def test_the_position_is_that_of_the_item_that_is_worked_on() -> None:
    assert [(item, position()) for item in numbered("abc")] == [("a", "1/3"), ("b", "2/3"), ("c", "3/3")]
    assert position() == ""


def test_after_a_loop_that_ends_early_there_is_no_position() -> None:
    items = numbered("abc")
    next(items)
    items.close()
    assert position() == ""
