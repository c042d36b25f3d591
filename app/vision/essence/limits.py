"""How much structure a picture file may have."""

from __future__ import annotations

# A 32 MB file of 8 KB blocks has 4,000 of them; walking over 100,000 takes about 0.05 s.
MAX_BLOCKS = 100_000


def check_blocks(count: int) -> None:
    """Refuse a file of nothing but blocks.

    :raises ValueError: where ``count`` is above ``MAX_BLOCKS``.
    """
    if count > MAX_BLOCKS:
        raise ValueError(f"more than {MAX_BLOCKS} blocks")
