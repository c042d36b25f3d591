"""A classifier's worst mistakes, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from app.utils.files import replacing

MOST = 48
COLUMNS = 6
THUMBNAIL = 168
MARGIN = 12
LINE = 17
TITLE = 34
CELL = (THUMBNAIL + MARGIN, THUMBNAIL + 3 * LINE + MARGIN)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
INK, PALE, EMPTY = (20, 20, 20), (105, 105, 105), (225, 225, 225)


@dataclass(frozen=True)
class JudgedPicture:
    """A picture, its true class and its predicted class.

    ``probability`` is the classifier's probability of the true class, 0-1. ``image`` is the picture, or a function that
    loads it when it is drawn.
    """

    name: str
    image: Image.Image | Callable[[], Image.Image]
    truth: str
    called: str
    probability: float


def worst_mistakes(judged: Sequence[JudgedPicture]) -> list[JudgedPicture]:
    """Return the wrongly classified pictures, at most ``MOST``, with the least probable truth first."""
    wrong = [item for item in judged if item.truth != item.called]
    return sorted(wrong, key=lambda item: item.probability)[:MOST]


def contact_sheet(path: Path, judged: Sequence[JudgedPicture]) -> None:
    """Draw the worst mistakes as a PNG: rows of ``COLUMNS`` thumbnails, the worst first.

    Each thumbnail has its true and its predicted class, the true class's probability, and its name. Correctly
    classified pictures are left out.
    """
    mistakes = worst_mistakes(judged)
    columns, rows = min(COLUMNS, max(3, len(mistakes))), -(-len(mistakes) // COLUMNS)
    sheet = Image.new("RGB", (MARGIN + columns * CELL[0], TITLE + MARGIN + rows * CELL[1]), "white")
    draw = ImageDraw.Draw(sheet)
    total = sum(item.truth != item.called for item in judged)
    title = f"The {len(mistakes)} worst of {total:,} mistakes" if total else "No mistakes"
    draw.text((MARGIN, MARGIN), f"{title} in {len(judged):,} pictures", INK, ImageFont.load_default(18))
    for number, mistake in enumerate(mistakes):
        row, column = divmod(number, COLUMNS)
        _draw_mistake(sheet, draw, (MARGIN + column * CELL[0], TITLE + MARGIN + row * CELL[1]), mistake)
    with replacing(path) as partial:
        sheet.save(partial, "PNG")


def _draw_mistake(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], mistake: JudgedPicture
) -> None:
    left, top = corner
    image = mistake.image if isinstance(mistake.image, Image.Image) else mistake.image()
    thumbnail = ImageOps.contain(image.convert("RGB"), (THUMBNAIL, THUMBNAIL))
    draw.rectangle((left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1), EMPTY)
    sheet.paste(thumbnail, (left + (THUMBNAIL - thumbnail.width) // 2, top + (THUMBNAIL - thumbnail.height) // 2))
    font, bold = ImageFont.load_default(11), ImageFont.load_default(13)
    text = top + THUMBNAIL + 3
    _draw_change(draw, left, text, mistake, bold)
    draw.text((left, text + LINE), _fit(f"true class {mistake.probability:.2%}", font), PALE, font)
    draw.text((left, text + 2 * LINE - 2), _fit(mistake.name, font, keep_end=True), PALE, font)


def _draw_change(draw: ImageDraw.ImageDraw, left: int, top: int, mistake: JudgedPicture, font: Font) -> None:
    """Draw true → predicted. The arrow is drawn, because Pillow's font has none."""
    arrow = 22
    called_fits = max((THUMBNAIL - arrow) / 2, THUMBNAIL - arrow - font.getlength(mistake.truth))
    called = _fit(mistake.called, font, called_fits)
    truth = _fit(mistake.truth, font, THUMBNAIL - arrow - font.getlength(called))
    draw.text((left, top), truth, INK, font)
    start, middle = left + font.getlength(truth) + 4, top + 8
    draw.line((start, middle, start + 11, middle), INK)
    draw.polygon([(start + 9, middle - 3), (start + 14, middle), (start + 9, middle + 3)], INK)
    draw.text((left + font.getlength(truth) + arrow, top), called, INK, font)


def _fit(text: str, font: Font, width: float = THUMBNAIL, keep_end: bool = False) -> str:
    """Truncate a text that is too wide, at its end or, with ``keep_end``, at its beginning."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        cut = "…" + text[-length:] if keep_end else text[:length] + "…"
        if font.getlength(cut) <= width:
            return cut
    return "…"
