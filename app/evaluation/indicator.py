"""A probability as a line of text, as the smile tutorial shows it."""

from __future__ import annotations

import math

WIDTH = 28
MARK = "###"


def indicator(p: float, left_label: str, right_label: str) -> str:
    """Show between two labels where a probability lies: ``non-smiling ------------------------###- smiling`` is 0.91.

    The line between the labels is cut into ``WIDTH`` equal cells. The middle of the mark is in the cell that holds
    ``p``, as far as the whole mark fits.

    :param p: probability of the class on the right, 0-1.
    """
    cell = math.floor(p * WIDTH)
    before = min(max(cell - len(MARK) // 2, 0), WIDTH - len(MARK))
    line = "-" * before + MARK + "-" * (WIDTH - len(MARK) - before)
    return f"{left_label} {line} {right_label}"
