"""A program that writes the smile network of the tutorials, with weights from a fixed seed, as Keras saves it and as
MMS takes it.

``smile_net.py FOLDER`` makes ``FOLDER/smile``. What a network costs does not depend on what it has learnt.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

SEED = 7


def write(folder: Path) -> None:
    """Write a model folder as the training does."""
    import numpy as np

    from app.engines.mxnet.compat import import_keras
    from app.training.recipes import SMILE, SMILE_TUTORIAL, smile_tutorial_network
    from app.training.run import export

    np.random.seed(SEED)
    import_keras()
    import mxnet as mx

    mx.random.seed(SEED)
    curves = CHECKOUT / "models" / SMILE.name / "learning-curves.png"
    network = smile_tutorial_network()
    network.compile("adam", "categorical_crossentropy")  # Keras-MXNet makes a checkpoint of nothing else,
    network.predict(np.zeros((1, *network.input_shape[1:])))  # nor before it has computed
    export(network, SMILE, SMILE_TUTORIAL, {}, curves, folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
