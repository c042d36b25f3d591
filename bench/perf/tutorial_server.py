"""The kind of server that tutorials end with: one process, one request at a time, Keras called in the view.

``tutorial_server.py PORT MODEL.h5``
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from flask import Flask, jsonify, request
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.engines.keras_engine import KerasEngine  # opens the file with today's h5py, as Keras itself cannot

app = Flask(__name__)
model = KerasEngine.load(Path(sys.argv[2]))
side = max(model.input_shape[1:])  # of one channel, wherever that axis stands


@app.route("/predict", methods=["POST"])
def predict():
    image = Image.open(io.BytesIO(request.get_data())).convert("L").resize((side, side))
    batch = (np.asarray(image, np.float32) / 255).reshape(1, *model.input_shape[1:])
    no, yes = model.predict(batch)[0]
    return jsonify({"non-smiling": float(no), "smiling": float(yes)})


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=False)
