"""The engine without HTTP: threads that compute one picture after the other. Prints a line of JSON for every cell.

``engine_only.py SECONDS CACHE THREADS,… MODEL=FOLDER=PICTURE …``
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.engines.base import Engine
from app.engines.loader import load
from app.formats.folder import open_model_folder
from app.types import FloatArray
from app.vision.preprocess import to_tensor


def drive(engine: Engine, tensor: FloatArray, threads: int, seconds: float) -> tuple[float, list[float]]:
    """Compute from the given number of threads at once.

    :returns: answers a second, and what each took in milliseconds.
    """
    times: list[list[float]] = [[] for _ in range(threads)]
    began = time.perf_counter()

    def ask(own: list[float]) -> None:
        while (started := time.perf_counter()) - began < seconds:
            engine.predict(tensor)
            own.append((time.perf_counter() - started) * 1000)

    running = [threading.Thread(target=ask, args=(own,)) for own in times]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    lasted = time.perf_counter() - began
    everything = [item for own in times for item in own]
    return len(everything) / lasted, everything


def main(seconds: float, cache: Path, crowds: list[int], models: list[str]) -> None:
    for description in models:
        name, folder, picture = description.split("=")
        opened = load(open_model_folder(Path(folder)), "auto", cache)
        shape, preprocess = opened.signature.inputs[0].shape, opened.signature.preprocess
        with Image.open(picture) as image:
            tensor = to_tensor(image.convert("RGB"), preprocess, shape)
        for threads in crowds:
            drive(opened.engine, tensor, threads, min(1.0, seconds / 4))
            rate, times = drive(opened.engine, tensor, threads, seconds)
            p50, p99 = np.percentile(times, (50, 99))
            cell = {"model": name, "connections": threads, "per_second": rate, "p50": p50, "p99": p99}
            print(json.dumps({**cell, "complete": len(times), "kind": opened.kind}), flush=True)
        opened.engine.close()


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]), [int(part) for part in sys.argv[3].split(",")], sys.argv[4:])
