"""The page with the form and the answer, empty at ``/`` and with a result at the result's address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, jsonify, make_response, render_template, request

from app.errors import BadParameter
from app.serving.pipeline import classify
from app.serving.serializers import answer_document
from app.web.csrf import visitor
from app.web.pages.view_models import ResultView, model_cards, requested_part, row_document
from app.web.request import client_disconnected, services

MOST_COMPARED = 8
"""Maximum number of models that a result is compared with."""


@dataclass(frozen=True)
class Sample:
    """A sample image for users who have none at hand, and the model that it suits."""

    name: str
    title: str
    model: str
    file: str


SAMPLES = {
    item.name: item
    for item in (
        Sample("astronaut", "an astronaut", "smile", "astronaut.jpg"),
        Sample("chelsea", "a cat", "dogcat", "samples/chelsea.jpg"),
        Sample("coffee", "a cup of coffee", "imagenet", "samples/coffee.jpg"),
        Sample("rocket", "a rocket", "imagenet", "samples/rocket.jpg"),
    )
}


def default_model() -> str:
    """Return the model of forms that name none: the only model that answers, or else the default of the
    settings."""
    here = services()
    names = here.registry.names()
    return names[0] if len(names) == 1 else here.settings.default_model


def workbench(result: ResultView | None = None, why: Mapping[str, Any] | None = None) -> Response:
    """Return the page.

    :param why: parameters of the heat map that is shown in place of the image; None shows the image.
    """
    here = services()
    default = default_model()
    models = model_cards(here.registry.entries())
    models.sort(key=lambda model: model.name != default)
    names = {model.name for model in models}
    chosen = result.answer["model"] if result and result.answer["model"] in names else default
    page = render_template(
        "classify.html",
        models=models,
        chosen=chosen if chosen in names or not models else models[0].name,
        samples=[sample for sample in SAMPLES.values() if sample.model in names],
        settings=here.settings,
        recent=here.uploads.count(visitor()) if visitor() else 0,
        result=result,
        why=why,
    )
    return make_response(page)


def result_response(view: ResultView, why: Mapping[str, Any] | None = None) -> Response:
    """Return a result as the page, or as the part of it that the page's script requests."""
    match requested_part():
        case "row":
            return jsonify(row_document(view))
        case "result":
            return make_response(render_template("_result.html", result=view, why=None))
    return workbench(view, why)


def compared_models(own: str) -> list[str]:
    """Return the other models that the request wants an answer of: ``with=a&with=b``, or ``with=a,b``.

    :param own: model of the result itself.
    :raises BadParameter: if there are too many.
    """
    names = [name for value in request.values.getlist("with") for name in value.split(",") if name]
    others = [name for name in dict.fromkeys(names) if name != own]
    if len(others) > MOST_COMPARED:
        raise BadParameter("with", ",".join(others), f"at most {MOST_COMPARED} models")
    return others


def answers_of(names: list[str], data: bytes) -> list[dict[str, Any]]:
    """Return the documents of some models' responses to an image."""
    limits, documents = services().settings.picture_limits, []
    for name in names:
        with services().registry.acquire_builtin(name) as model:
            documents.append(answer_document(classify(model, data, limits, None, client_disconnected())))
    return documents
