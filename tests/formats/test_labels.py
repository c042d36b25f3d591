from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelFormatError
from app.formats.labels import find_labels, read_labels

ANIMALS = ("cat", "dog", "owl")


@pytest.mark.parametrize(
    "content",
    [
        b"cat\ndog\nowl\n",
        b"cat\r\ndog\r\nowl",
        b"\xef\xbb\xbfcat\n\n  dog \nowl\n\n",
        b"0 cat\n1 dog\n2 owl\n",  # Teachable Machine's
        b"0: cat\n1: dog\n2: owl\n",
        b"00, cat\r\n01, dog\r\n02, owl\r\n",
    ],
)
def test_labels_are_read_with_any_line_ending_and_numbering(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert read_labels(tmp_path / "labels.txt") == ANIMALS


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        ("1 Euro\n2 Euro\n", ("1 Euro", "2 Euro")),  # not numbered from 0
        ("0\n1\n2\n", ("0", "1", "2")),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("n01440764 tench, Tinca tinca", "n01443537 goldfish")),
        ("0 cat\ndog\n", ("0 cat", "dog")),
    ],
)
def test_numbers_that_are_part_of_labels_are_kept(tmp_path: Path, lines: str, labels: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_text(lines)
    assert read_labels(tmp_path / "labels.txt") == labels


@pytest.mark.parametrize(
    "document",
    [
        ["cat", "dog", "owl"],
        {"dog": 1, "cat": 0, "owl": 2},  # Keras's class_indices
        {"1": "dog", "0": "cat", "2": "owl"},
    ],
)
def test_json_lists_labels_in_the_order_of_their_numbers(tmp_path: Path, document: Any) -> None:
    (tmp_path / "class_indices.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    assert read_labels(tmp_path / "class_indices.json") == ANIMALS


def test_the_index_of_imagenet_gives_synset_and_label(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}')
    assert read_labels(tmp_path / "classes.json") == ("n01440764 tench", "n01443537 goldfish")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"cat": 0, "dog": 2}', '{"a": "b"}', '[["cat"]]', "3"])
def test_json_without_labels_is_refused_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"labels\.json cannot be read as labels"):
        read_labels(tmp_path / "labels.json")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ({"synset.txt": "a", "labels.txt": "b"}, "synset.txt"),
        ({"labels.txt": "a", "class_indices.json": "{}"}, "labels.txt"),
        ({"my_classes.txt": "a"}, "my_classes.txt"),
        ({"class_indices.json": '{"a": 0}'}, "class_indices.json"),
        ({"classifier_config.json": '{"layers": 3.5}', "notes.txt": "a"}, None),
        ({"class-symbol.json": '{"nodes": 0}'}, None),
    ],
)
def test_a_folders_labels_are_found_by_name_and_json_by_its_content(
    tmp_path: Path, files: dict[str, str], chosen: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_labels(tmp_path) == (tmp_path / chosen if chosen else None)
