"""``signature.json`` files."""

from __future__ import annotations

import json
from pathlib import Path

from app.formats.signature import document_of, read_signature, signature_of
from fuzz import seeds
from fuzz.mutations import json_values
from fuzz.target import Target


def read(path: Path) -> object:
    """Read a signature, and assert that it survives a round trip, which a NaN would not."""
    signature = read_signature(path)
    text = json.dumps(document_of(signature), allow_nan=False)
    assert signature_of(json.loads(text), path) == signature
    text.encode()
    return signature


def _seeds() -> list[bytes]:
    return [json.dumps(seeds.SIGNATURE).encode(), json.dumps({"inputs": seeds.SIGNATURE["inputs"]}).encode()]


TARGET = Target("signature", ".json", _seeds, json_values.mutate, read)
