from __future__ import annotations

from collections import Counter

import pytest

from app.training.split import part_of, split


def test_the_part_of_a_name_is_the_same_on_every_machine() -> None:
    # the first eight bytes of sha256("abc") are ba7816bf8f01cfea (FIPS 180-2): 0.728 of 2**64
    assert part_of("abc", 0.73) == "test"
    assert part_of("abc", 0.72) == "validation"
    assert part_of("abc", 0.1) == "train"


def test_the_parts_have_their_shares() -> None:
    counts = Counter(part_of(f"{number}.jpg", 0.15) for number in range(20_000))
    # six standard deviations of a binomial of 20,000
    assert counts["test"] == pytest.approx(3000, abs=6 * (20_000 * 0.15 * 0.85) ** 0.5)
    assert counts["validation"] == pytest.approx(2000, abs=6 * (20_000 * 0.1 * 0.9) ** 0.5)


def test_the_folders_of_a_name_do_not_matter() -> None:
    # sha256("") begins with e3b0c442 (0.889), sha256("abc") with ba7816bf (0.728): FIPS 180-2
    assert split(["x/abc", "abc"], [], 0.73) == ("test", "test")


def test_a_group_takes_the_part_of_its_alphabetically_first_file_name() -> None:
    names = [f"{number}.jpg" for number in range(40)]
    alone = split(names, [], 0.4)
    sides = {part: alone.index(part) for part in ("train", "test")}
    first, last = sorted(sides.values(), key=lambda row: names[row])
    assert alone[first] != alone[last]
    for group in ([first, last], [last, first]):
        together = split(names, [group], 0.4)
        assert together[first] == together[last] == alone[first]
        others = [row for row in range(40) if row not in group]
        assert [together[row] for row in others] == [alone[row] for row in others]


def test_the_alphabet_is_that_of_the_file_names_without_folders() -> None:
    # "abc" is at 0.728; whatever "abd" is at, it gives way, though its folder comes first
    assert split(["a/abd", "z/abc"], [[0, 1]], 0.73) == ("test", "test")
    assert split(["a/abd", "z/abc"], [[0, 1]], 0.1) == ("train", "train")


def test_a_name_that_is_no_utf8_has_a_part_too() -> None:
    assert part_of("caf\udce9.jpg", 0.5) in {"train", "validation", "test"}
