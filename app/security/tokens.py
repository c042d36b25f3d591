"""Tokens of clients: names, roles and hashes in a file, cached by the processes that serve.

A token is ``dimple_<id>_<secret>``. Its secret has 256 random bits, so one SHA-256 with a salt is enough: slow hashes
(bcrypt, scrypt) make it dear to guess what people thought of, and nobody can guess this. The id is no secret; by it the
entry is found, so that one hash is computed for a request however many tokens there are.
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
"""Each includes those before it."""
TOKEN = re.compile(r"dimple_([0-9a-f]{12})_([A-Za-z0-9_\-]{43})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
DAY = 24 * 3600


@dataclass(frozen=True)
class Token:
    """What is kept of a token: everything but its secret.

    :param salt: as ``hash`` in hexadecimal digits; ``hash`` is the SHA-256 of the salt's bytes and the secret.
    :param created: as ``expires`` in seconds since 1970; ``expires`` is None where it never does.
    """

    id: str
    name: str
    role: str
    salt: str
    hash: str
    created: int
    expires: int | None = None

    def is_expired(self) -> bool:
        """Return whether its time is over."""
        return self.expires is not None and time.time() >= self.expires

    def allows(self, role: str) -> bool:
        """Return whether its role is the one that is wanted, or includes it."""
        return ROLES.index(self.role) >= ROLES.index(role)


NOBODY = Token("", "", PREDICTION, "00" * 16, "00" * 32, 0)
"""What an unknown token is compared with, so that it takes as long as a known one."""


def tokens_path(settings: Settings) -> Path:
    """Return where the tokens of a server are kept."""
    return settings.tokens_file or settings.instance_dir / "tokens.json"


def find_token(text: str, known: Mapping[str, Token]) -> Token | None:
    """Return the entry that a token belongs to, expired or not. It is compared in constant time.

    :param known: by their ids.
    """
    parts = TOKEN.fullmatch(text)
    identity, secret = parts.groups() if parts else ("", "")
    entry = known.get(identity, NOBODY)
    same = hmac.compare_digest(_hash(entry.salt, secret), entry.hash)
    return entry if same and entry is not NOBODY else None


def read_tokens(path: Path) -> dict[str, Token]:
    """All entries, by id; none where the file is not there.

    :raises TokenError: where it cannot be read or understood.
    """
    try:
        listed = read_json(path)["tokens"]
        entries = [_entry(item) for item in listed]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenError(f"The tokens in {path} cannot be read ({error}). Put the file right, or remove it.") from None
    return {entry.id: entry for entry in entries}


def add_token(path: Path, name: str, role: str, days: int | None = None) -> str:
    """Make a token.

    :param days: after which it is good no more; None makes one that stays.
    :returns: the token, which is told this once.
    :raises TokenError: where there is one of that name, or the name cannot be used, or the file not be written.
    """
    if not NAME.fullmatch(name):
        raise TokenError(f"A token cannot be called {name[:80]!r}: take letters, digits, '_', '-' and '.', at most 64.")
    identity, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
    now = int(time.time())
    expires = None if days is None else now + days * DAY
    with _locked_entries(path):
        entries = read_tokens(path)
        if any(entry.name == name for entry in entries.values()):
            raise TokenError(f"There is a token called {name} already. Take another name, or revoke that one first.")
        entry = Token(identity, name, role, salt, _hash(salt, secret), now, expires)
        _write(path, [*entries.values(), entry])
    return f"dimple_{identity}_{secret}"


def revoke_token(path: Path, name: str) -> None:
    """Forget a token.

    :raises TokenError: where there is none of that name.
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
    """:raises TypeError: as ValueError where it is none."""
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
"""A token that was added or revoked counts in every process after this, at the latest."""

Stamp = tuple[int, int, int]


class TokenCache:
    """The file's tokens. Whether it was changed is asked of the system at most once a second, by whichever request
    comes first then; all others read a dictionary."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._entries: Mapping[str, Token] = {}
        self._broken = False
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._reload(at_start=True)

    def entries(self) -> Mapping[str, Token]:
        """All that there are, expired ones, too, by id. A file that cannot be understood has none."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._reload()
        return self._entries

    def guard_management(self) -> bool:
        """Return whether management takes a token. An expired one counts: else management would be open to all from the
        moment when the last one expires. So does a file that cannot be read."""
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
    """Return what differs when a file was written anew."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
