"""The network that both peers serve: Dimple's own file on the same engine, after the preprocessing that MMS does.

``NETWORK`` names ``model.xml``; its input tells how large the pictures are, and whether they are grey.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
import openvino as ov
from PIL import Image


class Network:
    """The compiled network, on one thread: each of the peer's processes has its own, on any core."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        self.compiled = ov.Core().compile_model(os.environ["NETWORK"], "CPU", options)
        _, self.channels, self.height, self.width = [
            axis.get_length() if axis.is_static else 0 for axis in self.compiled.inputs[0].partial_shape
        ]

    def classify(self, picture: Image.Image) -> list[dict[str, float | str]]:
        """Return the five most probable classes of a picture."""
        pixels = np.asarray(picture.convert("L" if self.channels == 1 else "RGB"))
        pixels = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        rows = pixels.reshape(self.height, self.width, self.channels).transpose(2, 0, 1)[None].astype(np.float32)
        if self.channels == 1:
            rows /= 255
        (scores,) = self.compiled(rows)[0]
        return [{"class": str(index), "probability": float(scores[index])} for index in np.argsort(-scores)[:5]]
