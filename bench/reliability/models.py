"""Models that load at once, with obvious right answers: a picture's colour, or the handler's own process."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

COLOUR = "colour"
HEAVY = "bulky"
"""Models are loaded in the order of their names: a process that says it has COLOUR has this one, too."""
HANDLED = "handled"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SIDE = 8
HEAVY_SIDE, HEAVY_MAPS = 112, 96
"""Of what takes long: 1.1 * 10^9 multiplications, which no core does within 4 ms."""
HANDLER = """
import os
import time


def handle(data, context):
    if data is not None:
        time.sleep({seconds})
        return [f"{{os.getpid()}} {{len(one['body'])}}" for one in data]
"""


def picture(colour: str) -> bytes:
    """Return a picture in one colour, as PNG."""
    from PIL import Image

    written = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), COLOURS[colour]).save(written, "PNG")
    return written.getvalue()


def write_colour(folder: Path, scale: float = 1 / 16) -> Path:
    """Write a network that averages each of the three channels, 0-255, scales that, and takes the softmax: of a picture
    in one colour that is 1 - 2e-7 for it.
    """
    return _write_average(folder, COLOUR, SIDE, [], {}, scale)


def write_heavy(folder: Path) -> Path:
    """Write a slow network with the same answers: the three channels go through convolutions unchanged, beside many
    that are not used.
    """
    import numpy as np
    from onnx import helper

    draw = np.random.default_rng(3)
    learned, nodes, name = {}, [], "data"
    for number, (into, out) in enumerate(((3, HEAVY_MAPS), (HEAVY_MAPS, HEAVY_MAPS), (HEAVY_MAPS, 3))):
        kernel = draw.normal(0, 0.01, (out, into, 3, 3)).astype(np.float32)
        kernel[:3] = 0
        kernel[range(3), range(3), 1, 1] = 1
        learned[f"kernel{number}"] = kernel
        nodes += [
            helper.make_node("Conv", [name, f"kernel{number}"], [f"maps{number}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"maps{number}"], [f"positive{number}"]),
        ]
        name = f"positive{number}"
    return _write_average(folder, HEAVY, HEAVY_SIDE, nodes, learned, 1 / 16)


def _write_average(
    folder: Path, name: str, side: int, before: list[Any], learned: dict[str, Any], scale: float
) -> Path:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        *before,
        helper.make_node("GlobalAveragePool", [before[-1].output[0] if before else "data"], ["means"]),
        helper.make_node("Flatten", ["means"], ["row"]),
        helper.make_node("Mul", ["row", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["answer"], axis=1),
    ]
    arrays = {**learned, "scale": np.array([scale], np.float32)}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(array, item) for item, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    folder.mkdir(parents=True)
    save(model, str(folder / f"{name}.onnx"))
    (folder / "synset.txt").write_text("\n".join(COLOURS) + "\n")
    inputs = [{"data_name": "data", "data_shape": [0, 3, side, side]}]
    (folder / "signature.json").write_text(json.dumps({"inputs": inputs, "preprocess": {}}))
    return folder


def write_handled(folder: Path, seconds: float = 0.02) -> Path:
    """Write a model with code of its own, which answers its process and how many bytes it got, after a number of
    seconds.
    """
    (folder / "MAR-INF").mkdir(parents=True)
    manifest = {
        "runtime": "python",
        "model": {"modelName": HANDLED, "modelVersion": "1.0", "handler": "service:handle"},
    }
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "service.py").write_text(HANDLER.format(seconds=seconds))
    return folder


def write_archive(folder: Path, archive: Path, name: str) -> Path:
    """Write an archive of a model folder, with a name in its manifest."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "MANIFEST.json":
                file.write(path, str(path.relative_to(folder)))
        handler = {"handler": "service:handle"} if (folder / "service.py").exists() else {}
        manifest = {"runtime": "python", "model": {"modelName": name, "modelVersion": "1.0", **handler}}
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return archive
