"""What both of MMS's packers need: files that come out the same for the same content, whole or not at all."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import PackError
from app.utils.files import replacing

FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can write. Real times would give other bytes at every packing."""


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give a hidden path beside ``target``. What is made there becomes ``target`` at the end, or vanishes on an error.

    :raises PackError: where something cannot be read or written.
    """
    try:
        with replacing(target) as partial:
            yield partial
    except OSError as error:
        raise PackError(f"{target} cannot be made: {error.strerror or error}: {error.filename or target}") from None
    except UnicodeEncodeError as error:
        raise PackError(f"{target} cannot be made: the name {error.object!r} is not UTF-8. Rename the file") from None


def add_file(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    """Put a file into a zip."""
    status = path.stat()
    info = zip_info(name, archive.compression, executable=bool(status.st_mode & stat.S_IXUSR))
    info.file_size = status.st_size  # beyond 4 GB the header has another form
    with path.open("rb") as source, archive.open(info, "w") as file:
        shutil.copyfileobj(source, file, 2**20)


def add_text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Put a text into a zip."""
    archive.writestr(zip_info(name, archive.compression), text.encode())


def zip_info(name: str, compression: int, executable: bool = False) -> zipfile.ZipInfo:
    """Describe a plain file in a zip."""
    info = zipfile.ZipInfo(name, FIRST_DAY)
    info.create_system = 3  # Unix, wherever it is packed: the rights below are its
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.compress_type = compression
    return info
