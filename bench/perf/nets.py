"""A program that writes a network of Gluon's model zoo with weights from a fixed seed, as a checkpoint that ends in a
softmax.

Run by the Python of MMS's environment: ``nets.py FOLDER NAME ARCHITECTURE``. What a network costs does not depend on
what it has learnt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SEED = 7
SIDE = 224
SPREAD = 2.0
"""Standard deviation of the scores before the softmax: unscaled, they would be so large that one class is always sure,
and no comparison of two answers would say anything."""


def write(folder: Path, name: str, architecture: str) -> None:
    """Write ``NAME-symbol.json``, ``NAME-0000.params`` and ``synset.txt``."""
    import mxnet as mx
    import numpy as np

    np.random.seed(SEED)
    mx.random.seed(SEED)
    folder.mkdir(parents=True)
    network = mx.gluon.model_zoo.vision.get_model(architecture, pretrained=False)
    network.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    picture = mx.nd.random.uniform(0, 255, (1, 3, SIDE, SIDE))
    scores = network(picture).asnumpy()
    symbol = mx.sym.softmax(network(mx.sym.Variable("data")) * (SPREAD / float(scores.std())), name="softmax")
    arguments, states = _parameters(network, symbol)
    mx.model.save_checkpoint(str(folder / name), 0, symbol, arguments, states)
    (folder / "synset.txt").write_text("".join(f"kind {number}\n" for number in range(scores.shape[1])))


def _parameters(network: Any, symbol: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = {name: parameter.data() for name, parameter in network.collect_params().items()}
    arguments = {name: arrays[name] for name in symbol.list_arguments() if name in arrays}
    return arguments, {name: arrays[name] for name in symbol.list_auxiliary_states()}


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
