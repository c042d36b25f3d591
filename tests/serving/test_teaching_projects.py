from __future__ import annotations

import hashlib
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from app.errors import BadInput, BadParameter, DataError, InvalidImage, PictureTooLarge, ProjectNotFound
from app.formats.folder import check_own_name
from app.formats.pictures import open_pictures
from app.serving import teaching_projects
from app.serving.teaching_projects import Project, Projects, class_label, zipped_pictures
from app.settings import PictureLimits
from app.vision.sniff import FORMATS
from tests.pictures import encode, plain
from tests.training.transfer.shapes import draw


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path / "teach").create("pets", ["cat", "dog"])


def shape(number: int) -> bytes:
    return encode(draw("discs", number), "PNG")


def labels(project: Project) -> dict[str, int]:
    return {kind.label: len(kind.pictures) for kind in project.classes()}


def test_pictures_are_stored_in_the_layout_that_training_reads(project: Project) -> None:
    data = shape(1)
    assert project.add("cat", data, PictureLimits())
    stored = project.pictures_dir / "cat" / f"{hashlib.sha256(data).hexdigest()[:32]}.png"
    assert stored.read_bytes() == data
    assert labels(project) == {"cat": 1, "dog": 0}
    small = project.thumbnail(stored.name)
    assert small is not None
    assert small.startswith(b"\xff\xd8")


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"HEIC"}))
def test_every_decoded_format_is_accepted(project: Project, kind: str) -> None:
    assert project.add("cat", encode(draw("discs", 1), kind), PictureLimits())
    (stored,) = (project.pictures_dir / "cat").iterdir()
    with Image.open(stored) as image:
        assert image.format == kind
    with open_pictures(project.pictures_dir) as source:
        assert [name.partition("/")[2] for name in source.pictures] == [stored.name]


def test_a_duplicate_picture_counts_once_in_a_class(project: Project) -> None:
    assert project.add("cat", shape(1), PictureLimits())
    assert not project.add("cat", shape(1), PictureLimits())
    assert project.add("dog", shape(1), PictureLimits())
    assert labels(project) == {"cat": 1, "dog": 1}


def test_invalid_and_too_large_pictures_are_refused(project: Project) -> None:
    with pytest.raises(InvalidImage):
        project.add("cat", b"no picture", PictureLimits())
    with pytest.raises(PictureTooLarge):
        project.add("cat", encode(plain(100, 100), "PNG"), PictureLimits(pixels=9_999))
    with pytest.raises(BadParameter):
        project.add("bird", shape(1), PictureLimits())
    assert labels(project) == {"cat": 0, "dog": 0}


def test_a_full_project_accepts_no_more(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching_projects, "MOST_PICTURES", 1)
    project.add("cat", shape(1), PictureLimits())
    with pytest.raises(BadInput, match="can hold 1 pictures"):
        project.add("dog", shape(2), PictureLimits())


def test_a_picture_is_moved_and_removed_with_its_thumbnail(project: Project) -> None:
    project.add("cat", shape(1), PictureLimits())
    (name,) = project.classes()[0].pictures
    project.move("cat", name, "dog")
    assert labels(project) == {"cat": 0, "dog": 1}
    assert project.thumbnail(name)
    project.remove("dog", name)
    assert labels(project) == {"cat": 0, "dog": 0}
    assert project.thumbnail(name) is None
    assert list((project.folder / "small").iterdir()) == []


def test_classes_are_added_renamed_and_removed(project: Project) -> None:
    project.add("cat", shape(1), PictureLimits())
    project.add_class("bird")
    project.rename_class("cat", "kitten")
    project.remove_class("dog")
    assert labels(project) == {"bird": 0, "kitten": 1}
    with pytest.raises(BadParameter, match="another one"):
        project.rename_class("bird", "kitten")


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "x" * 151])
def test_an_invalid_class_name_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        class_label(text)


@pytest.mark.parametrize(
    ("text", "label"), [("../up", "_..\u2215up"), (".hidden", "_.hidden"), ("cafe\u0301", "caf\u00e9")]
)
def test_a_label_is_never_a_path(text: str, label: str) -> None:
    assert class_label(text) == label


@pytest.mark.parametrize("name", ["", "a b", "../a", ".a", "a/b", "a" * 101, "smile", "ImageNet"])
def test_an_invalid_model_name_is_refused(name: str) -> None:
    with pytest.raises(BadParameter):
        check_own_name(name, "name")


def test_a_picture_in_two_classes_is_the_first_warning(project: Project) -> None:
    for number in range(3):
        project.add("cat", shape(number), PictureLimits())
    project.add("cat", encode(draw("discs", 0).resize((66, 66)), "PNG"), PictureLimits())
    project.add("dog", encode(draw("discs", 1).resize((66, 66)), "PNG"), PictureLimits())
    found = project.duplicates()
    assert [set(group.labels) for group in found] == [{"cat", "dog"}, {"cat"}]
    assert all(len(group.pictures) == 2 for group in found)


def test_projects_are_found_by_id_and_by_model(tmp_path: Path) -> None:
    projects = Projects(tmp_path)
    made = projects.create("pets", [])
    assert projects.get(made.id).name == "pets"
    assert projects.of_model("pets").folder == made.folder  # type: ignore[union-attr]
    assert projects.of_model("others") is None
    for identity in ("..", "0" * 12, made.id.upper() + "/"):
        with pytest.raises(ProjectNotFound):
            projects.get(identity)
    projects.delete(made)
    assert projects.all() == []


def test_the_pictures_of_a_zip_are_read_with_their_folders(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("all/cat/1.png", "all/dog/2.png", "3.png", "notes.txt", "__MACOSX/all/cat/1.png"):
            archive.writestr(name, name)
    assert [(folder, name) for folder, name, _ in zipped_pictures(path)] == [
        ("", "3.png"),
        ("cat", "all/cat/1.png"),
        ("dog", "all/dog/2.png"),
    ]
    (tmp_path / "no.zip").write_bytes(b"PK")
    with pytest.raises(DataError):
        list(zipped_pictures(tmp_path / "no.zip"))


def test_a_project_with_damaged_metadata_is_not_found(project: Project) -> None:
    (project.folder / "project.json").write_text(json.dumps(["pets"]))
    assert project.name == ""


def test_concurrent_requests_can_add_pictures(project: Project) -> None:
    contents = [shape(number) for number in range(80)]

    def add(part: int) -> list[bool]:
        return [Project(project.folder).add("cat", data, PictureLimits()) for data in contents[part::4]]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(added) for added in pool.map(add, range(4)))
    assert [len(kind.pictures) for kind in project.classes()] == [80, 0]
