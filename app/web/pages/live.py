"""The webcam: pages whose frames are asked about at ``/predict/``, and kept nowhere."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template

from app.serving.model import Model
from app.web.context import dimple

bp = Blueprint("live", __name__)

SMILES = ("smiling", "non-smiling")
"""Labels of a model that can tell a smile."""


@bp.get("/live")
def live() -> Response:
    """The webcam with a frame around every face, and how much it smiles."""
    return make_response(render_template("live.html", model=_smile_model()))


@bp.get("/gate")
def gate() -> Response:
    """A door that opens when everybody in view smiles for one second."""
    return make_response(render_template("gate.html", model=_smile_model()))


def _smile_model() -> str:
    """The name of a model that finds faces and tells a smile; empty where none is loaded."""
    for entry in dimple().registry.entries():
        model = entry.model
        if isinstance(model, Model) and model.preprocess.faces and set(SMILES) <= set(model.labels):
            return entry.name
    return ""
