"""Tokens of clients: names, roles and hashes in a file, cached by the server processes.

A token is ``dimple_<id>_<secret>``. Its secret has 256 random bits, so one SHA-256 with a salt is enough: slow hashes
(bcrypt, scrypt) protect passwords that people chose, but nobody can guess this. The id is not secret. It selects the
entry, so each request computes one hash however many tokens exist.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from app.errors import TokenError
from app.settings import Settings
from app.utils.files import atomic_write, file_lock
from app.utils.json import read_json

log = logging.getLogger(__name__)

PREDICTION, MANAGEMENT = "prediction", "management"
ROLES = (PREDICTION, MANAGEMENT)
"""The roles in ascending order; each includes the previous ones."""
TOKEN = re.compile(r"dimple_([0-9a-f]{12})_([A-Za-z0-9_\-]{43})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
DAY = 24 * 3600


@dataclass(frozen=True)
class Token:
    """The entry of a token: everything but its secret.

    :param salt: as ``hash`` in hexadecimal digits; ``hash`` is the SHA-256 of the salt's bytes and the secret.
    :param created: as ``expires`` in seconds since 1970; ``expires`` is None if the token never expires.
    """

    id: str
    name: str
    role: str
    salt: str
    hash: str
    created: int
    expires: int | None = None

    def is_expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires

    def allows(self, role: str) -> bool:
        """Return whether the token's role equals or includes the required role."""
        return ROLES.index(self.role) >= ROLES.index(role)


NOBODY = Token("", "", PREDICTION, "00" * 16, "00" * 32, 0)
"""Entry against which an unknown token is checked, so that it takes as long as a known one."""


def tokens_path(settings: Settings) -> Path:
    """Return the path of a server's token file."""
    return settings.tokens_file or settings.instance_dir / "tokens.json"


def find_token(text: str, known: Mapping[str, Token]) -> Token | None:
    """Return a token's entry, expired or not. The comparison takes constant time.

    :param known: entries by id.
    """
    parts = TOKEN.fullmatch(text)
    identity, secret = parts.groups() if parts else ("", "")
    entry = known.get(identity, NOBODY)
    same = hmac.compare_digest(_hash(entry.salt, secret), entry.hash)
    return entry if same and entry is not NOBODY else None


def read_tokens(path: Path) -> dict[str, Token]:
    """Return all entries by id; none if the file is missing.

    :raises TokenError: if it cannot be read or parsed.
    """
    try:
        listed = read_json(path)["tokens"]
        entries = [_entry(item) for item in listed]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenError(f"The tokens in {path} cannot be read ({error}). Correct the file, or remove it.") from None
    return {entry.id: entry for entry in entries}


def add_token(path: Path, name: str, role: str, days: int | None = None) -> str:
    """Create a token.

    :param days: days until it expires; None creates a token that never expires.
    :returns: the token, whose secret is not stored.
    :raises TokenError: if the name exists or is invalid, or the file cannot be written.
    """
    if not NAME.fullmatch(name):
        raise TokenError(f"A token cannot be called {name[:80]!r}: use letters, digits, '_', '-' and '.', at most 64.")
    identity, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
    now = int(time.time())
    expires = None if days is None else now + days * DAY
    with _locked_entries(path):
        entries = read_tokens(path)
        if any(entry.name == name for entry in entries.values()):
            raise TokenError(f"A token called {name} already exists. Choose another name, or revoke the token first.")
        entry = Token(identity, name, role, salt, _hash(salt, secret), now, expires)
        _write(path, [*entries.values(), entry])
    return f"dimple_{identity}_{secret}"


def revoke_token(path: Path, name: str) -> None:
    """Delete a token.

    :raises TokenError: if no token has that name.
    """
    with _locked_entries(path):
        entries = read_tokens(path).values()
        remaining = [entry for entry in entries if entry.name != name]
        if len(remaining) == len(entries):
            known = ", ".join(entry.name for entry in entries)
            hint = f"There are: {known}." if known else "There is none."
            raise TokenError(f"There is no token called {name[:80]!r}. {hint}")
        _write(path, remaining)


def _locked_entries(path: Path):  # type: ignore[no-untyped-def]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TokenError(f"{path.parent} cannot be written: {error}.") from None
    return file_lock(path.with_name(path.name + ".lock"))


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()


def _entry(document: Mapping[str, object]) -> Token:
    """Return the entry of a JSON document.

    :raises TypeError: if it is invalid; also ValueError.
    """
    entry = Token(**document)  # type: ignore[arg-type]
    texts = all(isinstance(getattr(entry, field.name), str) for field in fields(Token)[:5])
    times = isinstance(entry.created, int) and isinstance(entry.expires, int | None)
    if not texts or not times or entry.role not in ROLES or len(bytes.fromhex(entry.hash)) != 32:
        raise ValueError(f"the entry {entry.name!r} makes no sense")
    bytes.fromhex(entry.salt)
    return entry


def _write(path: Path, entries: Iterable[Token]) -> None:
    """Write the file, readable by its owner only."""
    document = json.dumps({"tokens": [asdict(entry) for entry in entries]}, indent=2) + "\n"
    try:
        atomic_write(path, document, mode=0o600, sync=True)
    except OSError as error:
        raise TokenError(f"{path} cannot be written: {error}.") from None


LOOK_SECONDS = 1.0
"""Maximum seconds until every process sees an added or revoked token."""

Stamp = tuple[int, int, int]


class TokenCache:
    """A cache of the file's tokens. At most once a second, the first request checks if the file was changed; all others
    read a dictionary."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._entries: Mapping[str, Token] = {}
        self._broken = False
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._reload(at_start=True)

    def entries(self) -> Mapping[str, Token]:
        """Return all tokens by id, including expired ones; none if the file is invalid."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._reload()
        return self._entries

    def guard_management(self) -> bool:
        """Return whether management requires a token. Expired tokens count: otherwise management would be open to all
        once the last token expires. An unreadable file counts, too."""
        return any(entry.role == MANAGEMENT for entry in self.entries().values()) or self._broken

    def _reload(self, at_start: bool = False) -> None:
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
    """Return a value that differs after a rewrite of the file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
