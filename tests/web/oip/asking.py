"""Requests of the Open Inference Protocol, written out by hand."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image
from werkzeug.test import TestResponse

LENGTH = "Inference-Header-Content-Length"


def picture(*files: bytes) -> dict[str, Any]:
    """Return the input of encoded pictures, in JSON."""
    data = [base64.b64encode(file).decode() for file in files]
    return {"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": data}


def elements(*values: bytes) -> bytes:
    """Return a tensor of BYTES in the binary extension: a little-endian length of four bytes before each value."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def infer(client: FlaskClient, model: str, document: Any, binary: bytes = b"", **headers: str) -> TestResponse:
    """Send a request, with the bytes behind it, if any."""
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    sent_headers = {LENGTH: str(len(head)), **headers} if binary else headers
    return client.post(f"/v2/models/{model}/infer", data=head + binary, headers=sent_headers)


def outputs(response: TestResponse) -> dict[str, Any]:
    """Return the outputs of an answer, by name."""
    assert response.status_code == 200, response.text
    assert response.json
    return {item["name"]: item for item in response.json["outputs"]}


def dogcat_tensor(image: Image.Image) -> NDArray[np.float32]:
    """Return the input that models/dogcat/signature.json defines: RGB, 150 x 150 by Pillow's bilinear, divided by 255,
    NCHW.
    """
    pixels = np.asarray(image.convert("RGB").resize((150, 150), Image.Resampling.BILINEAR))
    return (pixels.astype(np.float32) * np.float32(1 / 255)).transpose(2, 0, 1)[np.newaxis]


def smile_tensor(face: Image.Image) -> NDArray[np.float32]:
    """Return the input that models/smile/signature.json defines for a face: grey, 64 x 64, divided by 255."""
    pixels = np.asarray(face.convert("L").resize((64, 64), Image.Resampling.BILINEAR))
    return (pixels.astype(np.float32) * np.float32(1 / 255))[np.newaxis, np.newaxis]
