"""A classifier of scikit-learn, with the ZipMap that skl2onnx appends: ``python make_sklearn.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import PICTURES
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parent


def main() -> None:
    rows = PICTURES.reshape(len(PICTURES), -1).astype(np.float32)
    net = LogisticRegression().fit(rows, [0, 1, 2, 0])
    (FOLDER / "sklearn_zipmap.onnx").write_bytes(to_onnx(net, rows[:1], target_opset=15).SerializeToString())


if __name__ == "__main__":
    main()
