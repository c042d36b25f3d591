from __future__ import annotations

import pytest

from app.cli.train_report import indicator


def test_the_line_equals_the_line_of_the_tutorial() -> None:
    line = "non-smiling ------------------------###- smiling"
    assert indicator(0.91, "non-smiling", "smiling") == line


@pytest.mark.parametrize(
    ("p", "before", "after"),
    [(0, 0, 25), (0.02, 0, 25), (0.5, 13, 12), (0.97, 25, 0), (1, 25, 0)],
)
def test_the_mark_is_at_the_position_of_the_probability(p: float, before: int, after: int) -> None:
    assert indicator(p, "cat", "dog") == f"cat {'-' * before}###{'-' * after} dog"


def test_the_mark_is_never_cut_and_never_moves_back() -> None:
    lines = [indicator(number / 1000, "", "").strip() for number in range(1001)]
    assert {len(line) for line in lines} == {28}
    assert {line.count("#") for line in lines} == {3}
    places = [line.index("###") for line in lines]
    assert places == sorted(places)
    assert set(places) == set(range(26))
