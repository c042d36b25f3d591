"""The manifests of both generations of Multi Model Server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from app.formats.archive.manifest import CURRENT, LEGACY, find_handler, named_checkpoint, read_manifest
from app.formats.archive.pack import manifest_text
from fuzz import seeds
from fuzz.mutations import json_values
from fuzz.target import Target


def _seeds() -> list[bytes]:
    current = json.loads(manifest_text("net", "service:handle", "python"))
    current["model"] |= {"modelVersion": "1.1", "description": "d", "extensions": {}}
    current["engine"] = {"engineName": "MXNet", "engineVersion": "1.2"}
    return [json.dumps(current).encode(), json.dumps(seeds.LEGACY).encode()]


def read(path: Path) -> object:
    """Read a manifest at the path of its generation, and find the handler and the checkpoint that it names."""
    folder = path.with_name("folder")
    file = folder / (LEGACY if b'"Model"' in path.read_bytes() else CURRENT)
    file.parent.mkdir(parents=True)
    try:
        shutil.copy(path, file)
        (folder / "service.py").write_bytes(b"")
        manifest = read_manifest(folder)
        return manifest, find_handler(folder, manifest), named_checkpoint(folder, manifest)
    finally:
        shutil.rmtree(folder)


TARGET = Target("manifest", ".json", _seeds, json_values.mutate, read)
