"""The table of models in docs/models.md: engines, parity, speed and memory of each.

    .venv/bin/python bench/models_table.py [FOLDER…] [--write]

Measures the models of the models folder and of every FOLDER (a model, or a folder of models), each engine in a process
of its own: milliseconds are the median of a picture at a time, memory is what the process grew by, the
engine's own libraries included.
``--write`` puts the table between its marks in docs/models.md; it is printed in any case.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.errors import DimpleError  # noqa: E402
from app.formats.folder import ModelFolder, is_model_folder, open_model_folder  # noqa: E402
from app.formats.keras_file import read_h5  # noqa: E402
from app.formats.mxnet_params import read_params  # noqa: E402
from app.settings import read_settings  # noqa: E402

DOCUMENT = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- models table: begin -->", "<!-- models table: end -->"
HEADS = ("model", "files", "input", "parameters", "engine", "parity", "ms a picture", "memory, MB")
SECONDS = 2.0


def main() -> None:
    """Measure and print, and write if that is requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(_measure(Path(arguments.measure[0]), arguments.measure[1])))
        return
    table = _table([row for path in _models(arguments.folders) for row in _rows(path)])
    print(table)
    if arguments.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        if not rest:
            sys.exit(f"{DOCUMENT} has no mark {BEGIN}")
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table}{END}{rest.partition(END)[2]}", encoding="utf-8")


def _models(folders: list[Path]) -> list[Path]:
    places = [read_settings().models_dir, *folders]
    found = [place for place in places if is_model_folder(place)]
    found += [
        path for place in places if place not in found for path in sorted(place.iterdir()) if is_model_folder(path)
    ]
    return [path.resolve() for path in found]


def _rows(path: Path) -> list[tuple[str, ...]]:
    folder = open_model_folder(path)
    first = (path.name, ", ".join(_formats(folder)), "", f"{_parameters(folder):,}" if not folder.onnx else "")
    rows = []
    for engine in _engines(folder):
        done = subprocess.run(
            [sys.executable, __file__, "--measure", str(path), engine], capture_output=True, text=True, check=False
        )
        if done.returncode:
            rows.append((*first, engine, f"refused: {done.stderr.strip().splitlines()[-1][:80]}", "", ""))
            continue
        values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        parity = (
            f"{values['parity']:.0e}" if values["parity"] is not None else "reference" if engine != "openvino" else ""
        )
        rows.append(
            (*first[:2], values["input"], first[3], engine, parity, f"{values['ms']:.2f}", f"{values['mb']:.0f}")
        )
    return [rows[0], *[("", "", "", "", *row[4:]) for row in rows[1:]]] if rows else []


def _engines(folder: ModelFolder) -> list[str]:
    known = [("mxnet", folder.checkpoint), ("keras", folder.h5), ("openvino", True)]
    return [name for name, has in known if has]


def _formats(folder: ModelFolder) -> list[str]:
    kinds = [("symbol + params", folder.checkpoint), ("h5", folder.h5), ("onnx", folder.onnx)]
    return [name for name, has in kinds if has]


def _parameters(folder: ModelFolder) -> int:
    """Count learned numbers; moving means and variances are not counted, as in papers."""
    if folder.checkpoint is not None:
        arrays = read_params(folder.checkpoint.params)
        return sum(math.prod(array.shape) for name, array in arrays.items() if not name.startswith("aux:"))
    if folder.h5 is not None:
        return sum(array.size for _name, arrays in read_h5(folder.h5).weights for array in arrays)
    return 0


def _measure(path: Path, engine: str) -> dict[str, Any]:
    import numpy as np
    import psutil

    from app.engines.loader import load

    process = psutil.Process()
    cache = read_settings().cache
    folder = open_model_folder(path)
    before = process.memory_info().rss
    try:
        opened = load(folder, engine, cache)
    except DimpleError as error:
        sys.exit(str(error))
    shape = (1, *opened.signature.inputs[0].shape[1:])
    batch = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    times: list[float] = []
    opened.engine.predict(batch)
    ends = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < ends:
        started = time.perf_counter()
        opened.engine.predict(batch)
        times.append(time.perf_counter() - started)
    return {
        "input": " x ".join(map(str, shape[1:])),
        "parity": opened.parity.max_abs_difference if opened.parity else None,
        "ms": statistics.median(times) * 1000,
        "mb": max(0, process.memory_info().rss - before) / 2**20,
    }


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [HEADS, tuple("---" for _ in HEADS), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main()
