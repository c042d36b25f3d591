"""The document about one model, which Multi Model Server answers to OPTIONS at every route that predicts.

It knows nothing of what a model takes and gives, and neither does this one: the structure is what clients rely on. Its
path is ``/prediction/…`` although the route is ``/predictions/…``; that is MMS's, too.
"""

from __future__ import annotations

from app.web.apidocs.mms_parts import FAILED, Json, document, operation


def describe_model(name: str) -> Json:
    """The document about a model.

    :param name: under which it is registered.
    """
    answers = {"200": {"description": "The model's answer"}, **FAILED}
    post = operation(name, answers, description=f"Asks the model {name}.")
    return document(f"RESTful API for: {name}", {f"/prediction/{name}": {"post": post}})
