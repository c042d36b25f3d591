"""Git LFS pointers, which replace large files in a clone that did not download them.

A pointer is a text of some 130 bytes: ``version https://git-lfs.github.com/spec/v1``, the content's SHA-256 and size.
"""

from __future__ import annotations

import re
from pathlib import Path

from app.errors import ModelFormatError

_BEGINNING = b"version https://git-lfs"
_MAX_BYTES = 1024


def refuse_pointer(path: Path) -> None:
    """Refuse a file that is a Git LFS pointer. Any other file passes, including one that cannot be read.

    :raises ModelFormatError: if the file is a pointer.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
    except OSError:
        return
    if text.startswith(_BEGINNING):
        size = re.search(rb"^size (\d{1,18})$", text, re.MULTILINE)
        content = f" of {int(size[1]):,} bytes" if size else ""
        raise ModelFormatError(
            f"{path} is a Git LFS pointer, not the file{content} itself. Run git lfs pull in the repository that it is "
            "from, or download the file from the repository's page"
        )
