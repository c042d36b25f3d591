"""A packer like ``model-archiver`` 1.x, which makes a ``.mar``, a ``.tar.gz`` or a copy of a folder.

The archives hold the same files as the original's, under the same names, with the same manifest. Unlike the original's,
they are reproducible, links to files are packed as the files, and a failure leaves nothing behind.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from app.errors import PackError
from app.formats.archive.manifest import CURRENT, LEGACY, NAME, Runtime
from app.utils.files import replacing

FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can store. Real times would make archives irreproducible."""


@contextmanager
def atomic_output(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``target``, which becomes ``target`` at the end, or is removed on an error.

    :raises PackError: if a file cannot be read or written.
    """
    try:
        with replacing(target) as partial:
            yield partial
    except OSError as error:
        raise PackError(f"{target} cannot be made: {error.strerror or error}: {error.filename or target}") from None
    except UnicodeEncodeError as error:
        raise PackError(f"{target} cannot be made: the name {error.object!r} is not UTF-8. Rename the file") from None


def add_file(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    status = path.stat()
    info = zip_info(name, archive.compression, executable=bool(status.st_mode & stat.S_IXUSR))
    info.file_size = status.st_size  # the header has another form beyond 4 GB
    with path.open("rb") as source, archive.open(info, "w") as file:
        shutil.copyfileobj(source, file, 2**20)


def add_text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(zip_info(name, archive.compression), text.encode())


def zip_info(name: str, compression: int, executable: bool = False) -> zipfile.ZipInfo:
    """Return the zip header of a regular file."""
    info = zipfile.ZipInfo(name, FIRST_DAY)
    info.create_system = 3  # Unix on every platform, because the permissions below are Unix's
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.compress_type = compression
    return info


Format = Literal["default", "tgz", "no-archive"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIX: dict[Format, str] = {"default": ".mar", "tgz": ".tar.gz", "no-archive": ""}

LEFT_OUT_FOLDERS = ("__MACOSX", "__pycache__")
LEFT_OUT_SUFFIXES = (".pyc", ".DS_Store", ".mar")

BAD_NAME = (
    "Model name contains special characters.\n"
    "The allowed regular expression filter for model name is: ^[A-Za-z0-9][A-Za-z0-9_\\-.]*$"
)


@dataclass(frozen=True)
class PackJob:
    """The options of ``model-archiver`` for one archive."""

    model_name: str
    model_path: Path
    handler: str
    runtime: Runtime = "python"
    export_path: Path = Path()
    archive_format: Format = "default"
    force: bool = False

    @property
    def target(self) -> Path:
        """Return the path of the resulting archive or folder."""
        return self.export_path / (self.model_name + SUFFIX[self.archive_format])


def pack(order: PackJob) -> Path:
    """Pack a model folder.

    :returns: the archive or folder. The format ``no-archive`` adds to an existing folder, as the original does.
    :raises PackError: in the original's words, if it refuses the job; or if a file cannot be read or written.
    """
    check(order)
    files = packed_files(order.model_path, order.target)
    text = manifest_text(order.model_name, order.handler, order.runtime)
    if order.archive_format == "no-archive":
        _write_folder(order, files, text)
    else:
        with atomic_output(order.target) as partial:
            write = _write_tgz if order.archive_format == "tgz" else _write_mar
            write(partial, order, files, text)
    return order.target


def check_name(name: str) -> None:
    """Refuse a name that model-archiver does not accept for a model.

    :raises PackError: in model-archiver's words, if the name is invalid.
    """
    if not NAME.fullmatch(name):
        raise PackError(BAD_NAME)


def manifest_text(model_name: str, handler: str, runtime: Runtime) -> str:
    """Return the manifest, byte for byte as model-archiver writes it."""
    document = {
        "runtime": runtime,
        "model": {"modelName": model_name, "handler": handler},
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }
    return json.dumps(document, indent=2)


def packed_files(folder: Path, target: Path) -> list[str]:
    """Return the files of a folder that belong in its archive: relative names with ``/``, sorted.

    :param target: the archive being made, which does not contain itself.
    :raises PackError: if a file is not a regular file.
    """
    names: list[str] = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(place)
        folders[:] = [name for name in folders if not _is_left_out(name) and not _same(here / name, target)]
        file_names = [here / name for name in files if name != LEGACY and not name.endswith(LEFT_OUT_SUFFIXES)]
        names += [_plain(path).relative_to(folder).as_posix() for path in file_names if not _same(path, target)]
    return sorted(names)


def check(order: PackJob) -> None:
    """Refuse a job whose folders are missing or whose archive exists already.

    :raises PackError: in the original's words, if the job is refused.
    """
    check_name(order.model_name)
    if not order.export_path.is_dir():
        raise PackError(
            f"Given export-path {order.export_path} is not a directory. Point to a valid export-path directory."
        )
    if not order.model_path.is_dir():
        raise PackError(
            f"Given model-path {order.model_path} is not a valid directory. Point to a valid model-path directory."
        )
    if order.target.exists() and not order.force:
        raise PackError(
            f"{order.target} already exists.\n"
            "Please specify --force/-f option to overwrite the model archive output file.\n"
            "See -h/--help for more details."
        )


def only_onnx(folder: Path) -> Path | None:
    """Return the ONNX file to convert; None if there is none.

    :raises PackError: in the original's words, if there are several.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".onnx"))
    if len(names) > 1:
        raise PackError(
            f"model-archiver expects only one .onnx file in the folder. Found {len(names)} files {names} in model-path."
        )
    return folder / names[0] if names else None


def _is_left_out(folder: str) -> bool:
    return folder in LEFT_OUT_FOLDERS or folder.startswith(".")


def _same(path: Path, target: Path) -> bool:
    return target.exists() and path.exists() and path.samefile(target)


def _plain(path: Path) -> Path:
    if not path.is_file():
        raise PackError(f"{path} cannot be packed; it may be a broken link. Remove it")
    return path


def _refuse(error: OSError) -> None:
    raise PackError(f"{error.filename} cannot be read: {error.strerror}")


def _write_mar(path: Path, order: PackJob, files: list[str], text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            add_file(archive, name, order.model_path / name)
        add_text(archive, CURRENT.as_posix(), text)


def _write_tgz(path: Path, order: PackJob, files: list[str], text: str) -> None:
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name in files:
            source = order.model_path / name
            with source.open("rb") as opened:
                status = source.stat()
                archive.addfile(_tar_info(order, name, status.st_size, status.st_mode), opened)
        content = text.encode()
        archive.addfile(_tar_info(order, CURRENT.as_posix(), len(content)), io.BytesIO(content))


def _tar_info(order: PackJob, name: str, size: int, mode: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{order.model_name}/{name}")
    info.size = size
    info.mode = 0o755 if mode & stat.S_IXUSR else 0o644
    return info


def _write_folder(order: PackJob, files: list[str], text: str) -> None:
    """Write a copy of the folder, or only the manifest if source and target are the same folder."""
    if _same(order.model_path, order.target):
        _write_manifest(order.target, text)
        return
    if order.target.exists():
        _add_to_folder(order, files, text)
        return
    with atomic_output(order.target) as partial:
        for name in files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(order.model_path / name, partial / name)
        _write_manifest(partial, text)


def _add_to_folder(order: PackJob, files: list[str], text: str) -> None:
    """Replace the files one by one: other files in the folder may be the user's, and must stay."""
    for name in files:
        path = _ready(order.target / name)
        with atomic_output(path) as partial:
            shutil.copy(order.model_path / name, partial)
    _write_manifest(order.target, text)


def _write_manifest(folder: Path, text: str) -> None:
    with atomic_output(_ready(folder / CURRENT)) as partial:
        partial.write_text(text, encoding="utf-8")


def _ready(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackError(f"{path} cannot be written: {error.strerror}") from None
    return path
