from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from app.serving.uploads import Uploads


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_picture_is_kept_under_a_name_made_from_its_content(tmp_path: Path) -> None:
    # sha256("abc"), the test vector of FIPS 180-2
    name = Uploads(tmp_path, 60, 1000).keep(b"abc", ".jpg")
    assert name == "ba7816bf8f01cfea414140de5dae2223.jpg"
    assert (tmp_path / name).read_bytes() == b"abc"


def test_the_same_picture_twice_is_one_file(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    assert uploads.keep(b"abc", ".jpg") == uploads.keep(b"abc", ".jpg")
    assert len(names(tmp_path)) == 1


def test_what_is_too_old_goes_at_the_next_upload(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    old = uploads.keep(b"old", ".jpg")
    assert old is not None
    os.utime(tmp_path / old, (time.time() - 61,) * 2)
    assert names(tmp_path) - {old} == set()
    new = uploads.keep(b"new", ".jpg")
    assert names(tmp_path) == {new}


def test_the_oldest_goes_when_it_is_too_much(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 10)
    kept = []
    for age, letter in ((30, b"a"), (20, b"b"), (10, b"c")):
        name = uploads.keep(letter * 4, ".png")
        assert name is not None
        os.utime(tmp_path / name, (time.time() - age,) * 2)
        kept.append(name)
    uploads.sweep()
    assert names(tmp_path) == set(kept[1:])


def test_leavings_of_a_killed_process_are_swept_and_the_placeholder_is_not(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    for name in (".gitkeep", ".half.part"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - 61,) * 2)
    uploads.sweep()
    assert names(tmp_path) == {".gitkeep"}


def test_zero_keeps_nothing(tmp_path: Path) -> None:
    assert Uploads(tmp_path, 0, 1000).keep(b"abc", ".jpg") is None
    assert Uploads(tmp_path, 60, 0).keep(b"abc", ".jpg") is None
    assert names(tmp_path) == set()


def test_many_threads_may_keep_at_once(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 40)
    failures: list[BaseException] = []

    def keep(letter: int) -> None:
        try:
            for number in range(30):
                uploads.keep(bytes([letter, number]) * 5, ".jpg")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(letter,)) for letter in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40
