"""Archives for the tests, made entry by entry, so that they can be invalid in any way."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The manifest that model-archiver 1.0.3 writes, as it stands in its archives.
MANIFEST = """{
  "runtime": "python",
  "model": {
    "modelName": "m.1",
    "handler": "service:handle"
  },
  "modelServerVersion": "1.0",
  "implementationVersion": "1.0",
  "specificationVersion": "1.0"
}"""

# A manifest of the form that mxnet-model-export 0.4 writes.
LEGACY = {
    "Model-Archive-Version": 0.2,
    "Model-Archive-Description": "smileCNN",
    "Model-Server": 0.4,
    "Model": {
        "Symbol": "smileCNN_model-symbol.json",
        "Parameters": "smileCNN_model-0000.params",
        "Signature": "signature.json",
        "Service": "custom_service.py",
        "Description": "smileCNN",
        "Model-Name": "smileCNN",
        "Model-Format": "MXNet-Symbolic",
    },
    "Engine": {"MXNet": 0.12},
}


def put(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def manifest(**model: Any) -> str:
    return json.dumps({"model": model})


def zipped(path: Path, files: Mapping[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip as model-archiver lays it out: files only, the manifest in its given position."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, str | bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, including hidden ones."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
