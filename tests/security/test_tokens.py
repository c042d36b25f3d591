"""The stored form of tokens, and their validity."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.errors import TokenError
from app.security import tokens as known
from app.security.tokens import TokenCache, add_token, find_token, read_tokens, revoke_token


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "tokens.json"


def test_a_token_has_256_random_bits_and_only_its_hash_is_stored(path: Path) -> None:
    token = add_token(path, "grafana", "management")
    found = re.fullmatch(r"dimple_([0-9a-f]{12})_([A-Za-z0-9_-]+)", token)
    assert found
    assert len(found[2]) * 6 >= 256  # base64: six bits a letter
    content = path.read_text()
    assert found[2] not in content
    (entry,) = json.loads(content)["tokens"]
    assert entry["hash"] == hashlib.sha256(bytes.fromhex(entry["salt"]) + found[2].encode()).hexdigest()
    assert (entry["name"], entry["role"], entry["expires"]) == ("grafana", "management", None)
    assert abs(entry["created"] - time.time()) < 60


def test_the_file_is_private_and_no_other_file_is_left(path: Path) -> None:
    add_token(path, "one", "prediction")
    assert path.stat().st_mode & 0o777 == 0o600
    assert {item.name for item in path.parent.iterdir()} == {"tokens.json", "tokens.json.lock"}


def test_each_token_matches_only_its_own_entry(path: Path) -> None:
    tokens = {name: add_token(path, name, "prediction") for name in ("one", "two")}
    entries = read_tokens(path)
    for name, token in tokens.items():
        entry = find_token(token, entries)
        assert entry is not None
        assert entry.name == name
    one, two = tokens.values()
    swapped = one[:20] + two[20:]  # an id with another's secret
    flipped = one[:-1] + ("A" if one[-1] != "A" else "B")
    for text in (
        "",
        "x",
        swapped,
        flipped,
        one + "x",
        one[:-1],
        one.upper(),
        " " + one,
        one.replace("dimple", "simple"),
    ):
        assert find_token(text, entries) is None, text


def test_token_names_must_be_unique_and_valid(path: Path) -> None:
    add_token(path, "one", "prediction")
    with pytest.raises(TokenError, match="one already"):
        add_token(path, "one", "management")
    for name in ("", "a b", "-x", "ü", "x" * 65, "a\n"):
        with pytest.raises(TokenError, match="cannot be called"):
            add_token(path, name, "prediction")


def test_a_revoked_token_is_removed_and_a_missing_one_is_reported(path: Path) -> None:
    token = add_token(path, "one", "prediction")
    add_token(path, "two", "prediction")
    revoke_token(path, "one")
    assert find_token(token, read_tokens(path)) is None
    with pytest.raises(TokenError, match="There are: two"):
        revoke_token(path, "one")


def test_the_lifetime_in_days_starts_now(path: Path) -> None:
    add_token(path, "week", "prediction", 7)
    (entry,) = read_tokens(path).values()
    assert entry.expires == entry.created + 604_800
    assert not entry.is_expired()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"tokens": [{}]}', '{"tokens": [1]}', "[" * 100_000, '{"tokens": [{"id": "a", "name": "b"}]}'],
)
def test_an_unreadable_file_is_an_error_with_its_name(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(TokenError, match=re.escape(str(path))):
        read_tokens(path)


def test_tokens_added_by_many_processes_are_not_lost(path: Path) -> None:
    code = "import sys; from pathlib import Path; from app.security.tokens import add_token\n"
    code += "for n in range(5): add_token(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', 'prediction')"
    started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(item)]) for item in range(3)]
    assert [item.wait(60) for item in started] == [0, 0, 0]
    assert len(read_tokens(path)) == 15


def test_a_change_takes_effect_without_a_restart_or_a_check_per_request(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("app.security.tokens.time.monotonic", lambda: now[0])
    known_tokens = TokenCache(path)
    assert not known_tokens.guard_management()
    add_token(path, "boss", "management")
    assert not known_tokens.guard_management()  # the file was read within this second
    now[0] = known.LOOK_SECONDS
    assert known_tokens.guard_management()
    revoke_token(path, "boss")
    now[0] = 2 * known.LOOK_SECONDS
    assert not known_tokens.guard_management()


def test_a_corrupted_file_closes_management_instead_of_opening_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_token(path, "boss", "management")
    monkeypatch.setattr(known, "LOOK_SECONDS", 0.0)
    known_tokens = TokenCache(path)
    assert len(known_tokens.entries()) == 1
    path.write_text("{")
    assert not known_tokens.entries()
    assert known_tokens.guard_management()


def test_the_last_token_that_expires_does_not_open_management(path: Path) -> None:
    add_token(path, "boss", "management", 1)
    document = json.loads(path.read_text())
    document["tokens"][0]["expires"] = int(time.time()) - 1
    path.write_text(json.dumps(document))
    assert TokenCache(path).guard_management()


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenError, match="cannot be written"):
        add_token(tmp_path / "file" / "tokens.json", "one", "prediction")
    assert os.listdir(tmp_path) == ["file"]
