"""From a trained network to a model folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.engines.compat import import_keras
from app.formats.signature import write_signature
from app.training.measure import Measured
from app.training.recipes import Recipe
from app.types import Signature, TensorSpec

HANDLER = "mxnet_vision_service:handle"


def export(network: Any, recipe: Recipe, measured: Measured, models_dir: Path) -> Path:
    """Write everything that serves the network, and how good it was found to be.

    :returns: the model folder.
    """
    folder = models_dir / recipe.name
    (folder / "MAR-INF").mkdir(parents=True, exist_ok=True)
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(_manifest(recipe.name), indent=2) + "\n")
    (folder / "synset.txt").write_text("".join(f"{label}\n" for label in recipe.labels))
    network.save(str(folder / f"{recipe.name}.h5"), include_optimizer=False)
    input_name = _export_checkpoint(network, folder / recipe.name) if recipe.checkpoint else f"{network.input_names[0]}"
    output = TensorSpec("softmax" if recipe.checkpoint else "sigmoid", (0, network.output_shape[-1]))
    signature = Signature((TensorSpec(input_name, recipe.shape),), (output,), recipe.preprocess, recipe.postprocess)
    write_signature(signature, folder / "signature.json")
    facts = {"data": recipe.data, "part": f"test, {recipe.test:.0%} by file name", **asdict(measured)}
    (folder / "metrics.json").write_text(json.dumps(facts, indent=2) + "\n")
    return folder


def _export_checkpoint(network: Any, prefix: Path) -> str:
    """Write ``<prefix>-symbol.json`` and ``<prefix>-0000.params``; return the input's name in them."""
    keras = import_keras()
    names, shapes = keras.models.save_mxnet_model(network, prefix=str(prefix), epoch=0)
    print(f"exported checkpoint: data names {list(names)}, shapes {[tuple(one.shape) for one in shapes]}")
    return str(names[0])


def _manifest(name: str) -> dict[str, Any]:
    return {
        "runtime": "python",
        "model": {"modelName": name, "handler": HANDLER, "modelVersion": "1.0"},
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }
