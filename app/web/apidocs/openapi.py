"""An OpenAPI 3.1 document about everything that answers at a port, made from the routes and what is declared of them.

The paths and methods are the application's own, the sentences those of the views. What they take and give is added by
:mod:`app.web.apidocs.operations`. Routes that predict take every method, as Multi Model Server's do; the document has
the usual ones.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from flask import Flask
from werkzeug.routing import Rule

from app.web.apidocs import oip
from app.web.apidocs.operations import OPERATIONS
from app.web.apidocs.schemas import SCHEMAS, Json
from app.web.around.asked import Asked

VERSION = "0.1.0"
LEFT_OUT = ("static", "apidocs.static", "apidocs.docs_file", "apidocs.no_api_description")
"""Parts of the pages, and an address at which MMS refuses everything."""
FOR_PEOPLE = ("results", "live", "manage", "login")
"""Blueprints of pages and of what they are made of."""
TOKENS = {"token": {"type": "http", "scheme": "bearer"}}
"""How a request shows who it is from: RFC 6750."""
VERSIONED = "version"
"""Parameter of the longer one of two addresses of the same."""
IGNORED = "ignored"
"""Parameter of those routes that answer longer paths as they answer shorter ones."""
TITLES = {
    "pages": "The page",
    "predict": "Pictures",
    "explain": "What an answer rests on",
    "mms": "Multi Model Server: inference",
    "management": "Multi Model Server: management",
    "oip": "Open Inference Protocol",
    "ops": "Health",
    "metrics": "Metrics",
    "apidocs": "Documents",
}


def describe_all(app: Flask, here: Asked) -> Json:
    """The document.

    :param here: which APIs answer at the port that it is about.
    """
    paths: Json = {}
    for rule in described_rules(app):
        if here.answers(_room(rule)) and (operations := _operations(app, rule)):
            paths.setdefault(_path(rule), {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dimple",
            "version": VERSION,
            "description": "Image classifiers over HTTP, with Multi Model Server's API beside our own.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": title} for room, title in TITLES.items() if here.answers(room)],
        "paths": paths,
        "components": {"schemas": {**SCHEMAS, **oip.SCHEMAS}, "securitySchemes": TOKENS},
        "security": [{}, {"token": []}],  # a token where the server asks for one
    }


def described_rules(app: Flask) -> Iterator[Rule]:
    """The routes that belong into a document."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in LEFT_OUT and _room(rule) not in FOR_PEOPLE and IGNORED not in rule.arguments:
            yield rule


def _room(rule: Rule) -> str:
    return str(rule.endpoint).partition(".")[0]


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def _operations(app: Flask, rule: Rule) -> Json:
    sentences = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
    summary, _, more = sentences.partition("\n\n")
    said = {"summary": _joined(summary)} | ({"description": _joined(more)} if more else {})
    declared = OPERATIONS.get(rule.endpoint, {})  # a test misses what is not there; the document must not fail for it
    return {method: _operation(rule, method, said) for method in declared if _takes(rule, method)}


def _takes(rule: Rule, method: str) -> bool:
    return method.upper() in (rule.methods or ())


def _operation(rule: Rule, method: str, said: Json) -> Json:
    declared = OPERATIONS[rule.endpoint][method]
    room, _, view = rule.endpoint.partition(".")
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in sorted(rule.arguments)
    ]
    return {
        "operationId": "_".join([room, view, *sorted({VERSIONED} & rule.arguments), method]),
        "tags": [TITLES[room]],
        **({} if "summary" in declared else said),
        **declared,
        "parameters": [*in_path, *declared.get("parameters", ())],
    }


def _joined(text: str) -> str:
    return " ".join(text.replace("``", "").split())
