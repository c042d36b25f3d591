"""From a body and a head to a model folder that is served like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ModelFormatError
from app.formats.folder import write_manifest
from app.formats.labels import write_labels
from app.formats.params import Arrays, read_params, write_params
from app.formats.signature import FILE_NAME, write_signature
from app.training.transfer.body import CONNECTED, Body, learned, outline
from app.training.transfer.head import Head
from app.types import Postprocess, TensorSpec
from app.utils.files import replacing_folder

OUTPUT = "softmax"


def export(
    name: str, body: Body, head: Head, labels: tuple[str, ...], metrics: dict[str, Any], models_dir: Path
) -> Path:
    """Write the model folder. It appears whole or not at all; one that was there stays until then.

    :returns: the folder.
    :raises ModelFormatError: where it cannot be written.
    """
    folder = models_dir / name
    try:
        with replacing_folder(folder) as partial:
            _write(partial, name, body, head, labels, metrics)
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error}. Let Dimple write to {models_dir}") from None
    return folder


def _write(folder: Path, name: str, body: Body, head: Head, labels: tuple[str, ...], metrics: dict[str, Any]) -> None:
    write_manifest(folder, name)
    write_labels(folder, labels)
    outputs = (TensorSpec(OUTPUT, (0, len(labels))),)
    write_signature(replace(body.signature, outputs=outputs, postprocess=Postprocess()), folder / FILE_NAME)
    _write_json(folder / f"{name}-symbol.json", _symbol(body, len(labels)))
    write_params(folder / f"{name}-0000.params", _params(body, head))
    _write_json(folder / "metrics.json", metrics)


def _symbol(body: Body, classes: int) -> dict[str, Any]:
    """Put a fully connected layer and a softmax after the body. The layer has the name of the one cut off, whose
    arrays' names are therefore free."""
    nodes = list(body.document["nodes"])
    first = len(nodes)
    nodes += [
        {"op": "null", "name": f"{body.head}_weight", "inputs": []},
        {"op": "null", "name": f"{body.head}_bias", "inputs": []},
        {
            "op": CONNECTED,
            "name": body.head,
            "attrs": {"num_hidden": str(classes)},
            "inputs": [[*body.features, 0], [first, 0, 0], [first + 1, 0, 0]],
        },
        {"op": "softmax", "name": OUTPUT, "inputs": [[first + 2, 0, 0]]},
    ]
    return {**body.document, **outline(nodes, (first + 3, 0))}


def _params(body: Body, head: Head) -> Arrays:
    names = learned(body)
    arrays = {key: array for key, array in read_params(body.checkpoint.params).items() if _bare(key) in names}
    arrays[f"arg:{body.head}_weight"] = head.weight.astype(np.float32)
    arrays[f"arg:{body.head}_bias"] = head.bias.astype(np.float32)
    return arrays


def _bare(key: str) -> str:
    return key.removeprefix("arg:").removeprefix("aux:")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
