"""Labelled pictures from a zip or a folder: classes come from folders, and the serving code decodes the pixels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from app.errors import BadInput, DataError, EmptyFile
from app.formats.pictures import PictureSource
from app.settings import PictureLimits
from app.utils.progress import echo, track
from app.vision.decode import decode

UNREADABLE_SHARE = 0.01


@dataclass(frozen=True)
class LabelledPicture:
    """A picture's name in its source, and the number of its class."""

    name: str
    number: int


def find_labelled(source: PictureSource, folders: Mapping[str, int], within: str = "") -> tuple[LabelledPicture, ...]:
    """Return the pictures of the classes.

    A picture's class is the class of the last folder in its path that is in ``folders``; pictures in none of them are
    skipped.

    :param folders: name of a folder -> number of its class.
    :param within: if a folder of this name has pictures of the classes, pictures outside it are skipped too.
    :raises DataError: if a class has no picture.
    """
    labelled_pictures = []
    for name in source.pictures:
        numbers = [folders[parent] for parent in PurePosixPath(name).parts[:-1] if parent in folders]
        if numbers:
            labelled_pictures.append(LabelledPicture(name, numbers[-1]))
    inside = [picture for picture in labelled_pictures if within in PurePosixPath(picture.name).parts[:-1]]
    labelled_pictures = inside or labelled_pictures
    check_classes(source, folders, {picture.number for picture in labelled_pictures}, "")
    return tuple(labelled_pictures)


def check_classes(source: PictureSource, folders: Mapping[str, int], present: Collection[int], purpose: str) -> None:
    """Check that every class has a picture.

    :raises DataError: naming the folders of the first class without pictures.
    """
    for number in sorted(set(folders.values()) - set(present)):
        names = " or ".join(repr(name) for name, of in folders.items() if of == number)
        raise DataError(
            f"{source.path} has no picture{purpose} in a folder {names}. "
            f"Put pictures into each of the folders {', '.join(folders)}."
        )


def read_images(
    source: PictureSource, pictures: Sequence[LabelledPicture]
) -> Iterator[tuple[LabelledPicture, Image.Image]]:
    """Decode the pictures as the server does, one at a time. An unreadable picture is reported and skipped.

    :returns: upright RGB pictures.
    :raises DataError: if more than 1 % of them cannot be read.
    """
    left_out = 0
    for picture in track(pictures, "reading", len(pictures), "pictures"):
        try:
            data = source.read(picture.name)
            if not data:
                raise EmptyFile(picture.name)
            image = decode(data, PictureLimits()).image
        except (BadInput, DataError) as error:
            left_out += 1
            echo(f"{picture.name} is left out: {error}")
            if left_out > UNREADABLE_SHARE * len(pictures):
                raise DataError(
                    f"{source.path}: more than 1 % of its {len(pictures):,} pictures cannot be read, the last of them "
                    f"{picture.name}. Get the data again, or take the damaged pictures out."
                ) from None
            continue
        yield picture, image
