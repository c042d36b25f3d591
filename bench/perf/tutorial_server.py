"""The kind of server at the end of tutorials: one process, one request at a time, Keras called in the view.

``tutorial_server.py PORT MODEL.h5 [faces]``; with ``faces`` it looks for a face first, with OpenCV's cascade.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
from flask import Flask, jsonify, request
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.engines.keras.engine import KerasEngine  # opens the file with today's h5py, as Keras itself cannot

app = Flask(__name__)
model = KerasEngine.load(Path(sys.argv[2]))
looks = sys.argv[3:] == ["faces"]
cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt.xml"))
side = max(model.input_shape[1:])  # of one channel, wherever that axis stands


@app.route("/predict", methods=["POST"])
def predict():
    image = Image.open(io.BytesIO(request.get_data())).convert("L")
    found = cascade.detectMultiScale(np.asarray(image), 1.1, 6, minSize=(24, 24)) if looks else ()
    if len(found):
        x, y, width, height = max(found, key=lambda box: box[2])
        image = image.crop((x, y, x + width, y + height))
    batch = (np.asarray(image.resize((side, side)), np.float32) / 255).reshape(1, *model.input_shape[1:])
    no, yes = model.predict(batch)[0]
    return jsonify({"non-smiling": float(no), "smiling": float(yes)})


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=False)
