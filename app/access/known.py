"""The tokens that hold now, in a process that serves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from app.access.tokens import MANAGEMENT, Token, read_tokens
from app.errors import TokenError

LOOK_SECONDS = 1.0
"""A token that was added or revoked counts in every process after this, at the latest."""

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


class KnownTokens:
    """The file's tokens. Whether it was changed is asked of the system at most once a second, by whichever request
    comes first then; all others read a dictionary."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._entries: Mapping[str, Token] = {}
        self._broken = False
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._look(at_start=True)

    def entries(self) -> Mapping[str, Token]:
        """All that there are, expired ones, too, by id. A file that cannot be understood has none."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        return self._entries

    def guard_management(self) -> bool:
        """Whether management takes a token. An expired one counts: else management would be open to all from the moment
        when the last one expires. So does a file that cannot be read."""
        return any(entry.role == MANAGEMENT for entry in self.entries().values()) or self._broken

    def _look(self, at_start: bool = False) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            entries, broken = read_tokens(self._path), False
        except TokenError as error:
            log.error("no token is accepted: %s", error)
            entries, broken = {}, True
        self._entries, self._broken, self._stamp = entries, broken, stamp
        if not at_start:
            log.info("the tokens have changed; there are %d now", len(entries))


def _stamp(path: Path) -> Stamp | None:
    """What differs when a file was written anew."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
