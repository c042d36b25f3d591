from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.serving.uploads import FEW, Uploads
from app.settings import ROOT
from tests.helpers import wait_until


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_picture_is_stored_under_a_random_id(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    first, second = uploads.keep(b"abc", ".jpg"), uploads.keep(b"abc", ".jpg")
    assert first != second
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"{first}.jpg": b"abc",
        f"{second}.jpg": b"abc",
    }
    assert all(re.fullmatch(r"[0-9a-f]{32}\.jpg", name) for name in names(tmp_path))


def test_a_record_is_found_by_id_and_by_owner(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    mine = uploads.keep(b"abc", ".jpg", "me", {"label": "é"})
    uploads.keep(b"abc", ".jpg", "you", {})
    assert mine is not None
    (found,) = uploads.of("me")
    assert (found.id, found.path.read_bytes(), found.record) == (mine, b"abc", {"label": "é"})
    assert uploads.find(mine) == found
    assert "me" not in "".join(names(tmp_path)).replace(".jpg", "")


@pytest.mark.parametrize("number", ["", "*", "../x", "0" * 31, "0" * 32, "?" * 32])
def test_an_invalid_id_finds_nothing(tmp_path: Path, number: str) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    uploads.keep(b"abc", ".jpg", "me", {})
    assert uploads.find(number) is None


def test_a_deleted_picture_leaves_nothing(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    upload = uploads.find(uploads.keep(b"abc", ".jpg", "me", {}) or "")
    assert upload is not None
    uploads.delete(upload)
    assert names(tmp_path) == set()
    assert uploads.find(upload.id) is None


def test_a_record_is_removed_with_its_picture_despite_later_changes(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    identity = uploads.keep(b"abc", ".jpg", "me", {}) or ""
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 59,) * 2)
    upload = uploads.find(identity)
    assert upload is not None
    uploads.note(upload, {"corrected": True})
    assert abs((tmp_path / f"{identity}.{upload.tag}.json").stat().st_mtime - upload.since) < 1
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 61,) * 2)
    assert uploads.find(identity) is None
    uploads.sweep()
    assert names(tmp_path) == set()


def test_expired_uploads_are_removed_at_the_next_upload(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    old = f"{uploads.keep(b'old', '.jpg')}.jpg"
    os.utime(tmp_path / old, (time.time() - 61,) * 2)
    assert names(tmp_path) == {old}
    new = uploads.keep(b"new", ".jpg")
    assert names(tmp_path) == {f"{new}.jpg"}


def test_the_oldest_upload_is_removed_if_the_size_limit_is_exceeded(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 10)
    stored = []
    for age, letter in ((30, b"a"), (20, b"b"), (10, b"c")):
        name = f"{uploads.keep(letter * 4, '.png')}.png"
        os.utime(tmp_path / name, (time.time() - age,) * 2)
        stored.append(name)
    uploads.sweep()
    assert names(tmp_path) == set(stored[1:])


def test_the_number_of_uploads_is_limited(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 10**6, 3)
    stored = []
    for age in (50, 40, 30, 20, 10):
        stored.append(f"{uploads.keep(b'x', '.png')}.png")
        os.utime(tmp_path / stored[-1], (time.time() - age,) * 2)
    uploads.sweep()
    assert names(tmp_path) == set(stored[2:])


def test_the_latest_uploads_of_an_owner_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 10**6)
    mine = [uploads.keep(b"x", ".png", "me", {"number": number}) for number in range(5)]
    uploads.keep(b"x", ".png", "you", {})
    for age, identity in zip((10, 50, 20, 40, 30), mine, strict=True):
        for path in tmp_path.glob(f"{identity}.*"):
            os.utime(path, (time.time() - age,) * 2)
    assert [item.record["number"] for item in uploads.of("me", 2)] == [0, 2]
    assert [item.record["number"] for item in uploads.of("me")] == [0, 2, 4, 3, 1]
    assert (uploads.count("me"), uploads.count("you"), uploads.count("nobody")) == (5, 1, 0)


listings: list[str] = []
sys.addaudithook(lambda event, arguments: listings.append(event) if event in ("os.listdir", "os.scandir") else None)


def test_an_upload_does_not_list_the_stored_files(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 10**9)
    for number in range(FEW + 1):
        (tmp_path / f"{number:032x}.png").write_bytes(b"x")
    uploads.sweep()
    listings.clear()
    for _ in range(50):
        uploads.keep(b"x", ".png", "me", {})
    assert listings == []


def test_an_upload_stored_by_another_process_is_found_at_once(tmp_path: Path) -> None:
    here, there = Uploads(tmp_path, 60, 10**6), Uploads(tmp_path, 60, 10**6)
    for _ in range(20):
        identity = there.keep(b"x", ".png", "me", {}) or ""
        assert here.find(identity) == there.find(identity) is not None


def test_expired_uploads_are_removed_without_new_uploads(tmp_path: Path) -> None:
    old = tmp_path / f"{0:032x}.png"
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 61,) * 2)
    Uploads(tmp_path, 60, 10**6).sweep_regularly()
    wait_until(lambda: not old.exists())


def test_files_of_a_killed_process_are_removed_and_the_placeholder_is_kept(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 60, 1000)
    for name in (".gitkeep", ".half.part"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - 61,) * 2)
    uploads.sweep()
    assert names(tmp_path) == {".gitkeep"}


def test_a_limit_of_zero_stores_nothing(tmp_path: Path) -> None:
    assert Uploads(tmp_path, 0, 1000).keep(b"abc", ".jpg") is None
    assert Uploads(tmp_path, 60, 0).keep(b"abc", ".jpg") is None
    assert names(tmp_path) == set()


def test_many_threads_can_store_uploads_concurrently(tmp_path: Path) -> None:
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


FULL = """
import resource, sys
from pathlib import Path
from app.errors import StorageError
from app.serving.uploads import Uploads
uploads = Uploads(Path(sys.argv[1]), 60, 10**6)
record = uploads.find(uploads.keep(b"first", ".jpg", "me", {"label": "a"}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # no file can be longer, as on a disk that is full
for attempt in (
    lambda: uploads.keep(bytes(1000), ".jpg"),
    lambda: uploads.keep(bytes(10), ".jpg", "me", {"label": "b" * 1000}),
    lambda: uploads.note(record, {"label": "c" * 1000}),
):
    try:
        attempt()
    except StorageError as error:
        print(error)
print(uploads.find(record.id).record["label"])
"""


def test_a_failed_write_is_reported_and_leaves_no_partial_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    *errors, label = done.stdout.splitlines()
    assert len(errors) == 3, done.stderr
    assert all(str(tmp_path) in line and "File too large" in line for line in errors)
    assert label == "a"
    assert len(names(tmp_path)) == 2  # the first picture and its record
