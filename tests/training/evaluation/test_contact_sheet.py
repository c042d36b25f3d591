from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.training.evaluation.contact_sheet import JudgedPicture, contact_sheet, worst_mistakes

Colour = tuple[int, int, int]


def colours(count: int) -> list[Colour]:
    """Return bright colours, all different."""
    made = []
    for number in range(count):
        red, green, blue = colorsys.hsv_to_rgb(number / count, 1, 1 if number % 2 else 0.7)
        made.append((round(red * 255), round(green * 255), round(blue * 255)))
    return made


def mistake(colour: Colour, probability: float, called: str = "dog") -> JudgedPicture:
    return JudgedPicture("some/folder/name.jpg", Image.new("RGB", (40, 30), colour), "cat", called, probability)


def order_of(path: Path, among: list[Colour]) -> list[Colour]:
    """Return the colours that are in a picture over an area, in reading order."""
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)[::4, ::4]
    found = {}
    for colour in among:
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        if len(rows) > 100:
            found[colour] = (rows.min(), columns.min())
    return sorted(found, key=lambda colour: found[colour])


def test_the_worst_mistake_is_first_and_correct_pictures_are_omitted(tmp_path: Path) -> None:
    red, green, blue, yellow = colours(4)
    judged = [mistake(red, 0.4), mistake(green, 0.1), mistake(blue, 0.001, called="cat"), mistake(yellow, 0.2)]
    contact_sheet(tmp_path / "sheet.png", judged)
    assert order_of(tmp_path / "sheet.png", [red, green, blue, yellow]) == [green, yellow, red]


def test_fifty_mistakes_are_eight_rows_of_six_without_the_two_mildest(tmp_path: Path) -> None:
    all_colours = colours(50)
    contact_sheet(tmp_path / "sheet.png", [mistake(colour, i / 100) for i, colour in enumerate(all_colours)])
    assert order_of(tmp_path / "sheet.png", all_colours) == all_colours[:48]
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)[::4, ::4]
    tops = {np.nonzero((pixels == colour).all(axis=2))[0].min() for colour in all_colours[:48]}
    assert len(tops) == 8


def test_an_additional_row_makes_the_sheet_higher_and_not_wider(tmp_path: Path) -> None:
    sizes = []
    for count in (6, 7, 13):
        contact_sheet(tmp_path / "sheet.png", [mistake((9, 9, 200), 0.1)] * count)
        with Image.open(tmp_path / "sheet.png") as sheet:
            sizes.append(sheet.size)
    (wide, one), (_, two), (_, three) = sizes
    assert {width for width, _ in sizes} == {wide}
    assert three - two == two - one > 100


def test_a_picture_is_loaded_only_if_it_is_shown(tmp_path: Path) -> None:
    loaded = []

    def load() -> Image.Image:
        loaded.append("shown")
        return Image.new("RGB", (10, 10), (255, 0, 0))

    judged = [JudgedPicture("a", load, "cat", "dog", 0.1), JudgedPicture("b", load, "cat", "cat", 0.9)]
    contact_sheet(tmp_path / "sheet.png", judged)
    assert loaded == ["shown"]


@pytest.mark.parametrize("size", [(300, 20), (20, 300), (1, 1), (4000, 3000)])
def test_a_thumbnail_keeps_its_aspect_ratio(tmp_path: Path, size: tuple[int, int]) -> None:
    contact_sheet(
        tmp_path / "sheet.png", [JudgedPicture("x", Image.new("RGB", size, (255, 0, 0)), "a" * 90, "b" * 90, 0.0)]
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows, columns = np.nonzero((np.asarray(sheet) == (255, 0, 0)).all(axis=2))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert width / height == pytest.approx(size[0] / size[1], rel=0.1)
    assert max(width, height) <= 180


def test_a_sheet_without_mistakes_is_written(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheet.png", [mistake((0, 0, 0), 0.9, called="cat")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.height < 100


def test_equally_bad_mistakes_keep_their_order() -> None:
    judged = [JudgedPicture(name, Image.new("L", (1, 1)), "cat", "dog", 0.1) for name in "cab"]
    assert [mistake.name for mistake in worst_mistakes(judged)] == ["c", "a", "b"]
