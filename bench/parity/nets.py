"""A program that writes small networks with weights from a fixed seed, run by the Python of MMS's environment:
``nets.py FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SEED = 7
CLASSES = 6
SIDES = {"tiny32": 32, "tiny224": 224}


def network() -> Any:
    """Return a network of two convolutions, the mean of each channel, and a softmax over six classes."""
    import mxnet as mx

    x = mx.sym.Variable("data") * (1 / 255)
    for number, filters in enumerate((8, 12)):
        x = mx.sym.Convolution(x, name=f"conv{number}", kernel=(3, 3), stride=(2, 2), num_filter=filters)
        x = mx.sym.Activation(x, name=f"relu{number}", act_type="relu")
    x = mx.sym.Pooling(x, name="mean", global_pool=True, kernel=(1, 1), pool_type="avg")
    x = mx.sym.FullyConnected(x, name="classes", num_hidden=CLASSES)
    return mx.sym.SoftmaxOutput(x, name="softmax")


def write(folder: Path, name: str, side: int) -> None:
    """Write a checkpoint and its labels."""
    import mxnet as mx

    folder.mkdir(parents=True)
    module = mx.mod.Module(network(), context=mx.cpu())
    module.bind([("data", (1, 3, side, side))], for_training=False)
    mx.random.seed(SEED)
    module.init_params(mx.init.Xavier(magnitude=6))
    module.save_checkpoint(str(folder / name), 0)
    (folder / "synset.txt").write_text("".join(f"kind {number}\n" for number in range(CLASSES)))


if __name__ == "__main__":
    for name, side in SIDES.items():
        write(Path(sys.argv[1]) / name, name, side)
