"""Management API of Multi Model Server: register, describe, scale and unregister models while the server runs.

Numbers are parsed as in MMS: a value that is not a number, or exceeds 32 bits, counts as missing. Impossible values (an
empty batch, more workers than the machine has room for) are rejected; MMS accepts them and fails later.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import BadParameter
from app.serving.management import RegistrationRequest, describe, list_page, register, scale
from app.web.csrf import check_same_origin
from app.web.errors import mms_error_response
from app.web.json import parse_json
from app.web.mms.messages import json_response, set_no_cache
from app.web.request import services, whole_body

bp = Blueprint("management", __name__)
bp.register_error_handler(Exception, mms_error_response)
bp.after_request(set_no_cache)

INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
LARGEST = 2**31 - 1
MOST_WORKERS = 1024
LONGEST_VALUE = 4094


@bp.before_request
def _check() -> None:
    """Limit the length of the body, and reject requests from pages of other sites.

    Such a page could make a local user's browser register a model; MMS allows it.
    """
    if (request.content_length or 0) > services().settings.max_request_bytes:
        raise RequestEntityTooLarge()
    if request.method != "GET" and not services().settings.cors_allowed_origin:
        check_same_origin()


@bp.get("/models", strict_slashes=False, provide_automatic_options=False)
def list_models() -> Response:
    """List the registered models by name, in pages."""
    limit, start = _number(request.args, "limit", 100), _number(request.args, "next_page_token", 0)
    return _json(list_page(services().registry, limit, start))


@bp.post("/models", strict_slashes=False, provide_automatic_options=False)
def register_model() -> Response:
    """Register the model at ``url``; or at ``model_url``, the name in MMS's documentation, if ``url`` is missing."""
    parameters = _parameters()
    settings = services().settings
    order = RegistrationRequest(
        url=str(parameters.get("url") or parameters.get("model_url") or ""),
        name=str(parameters.get("model_name") or ""),
        handler=str(parameters.get("handler") or ""),
        runtime=str(parameters.get("runtime") or ""),
        batch_size=_number(parameters, "batch_size", 1, least=1),
        max_batch_delay=_number(parameters, "max_batch_delay", 100, least=0),
        workers=_number(parameters, "initial_workers", settings.default_workers_per_model, most=MOST_WORKERS),
        response_timeout=_timeout(parameters),
        replacing=_flag(parameters, "replace", False),
    )
    entry = register(services().registry, order, settings, services().by_name)
    if order.workers < 1:
        return _json({"status": f'Model "{entry.name}" registered'})
    return _scale_response(_flag(parameters, "synchronous", True))


@bp.get("/models/<name>", strict_slashes=False, provide_automatic_options=False)
def describe_model(name: str) -> Response:
    return _json(describe(services().registry.entry(name)))


@bp.put("/models/<name>", strict_slashes=False, provide_automatic_options=False)
def scale_model(name: str) -> Response:
    """Change the number of a model's workers."""
    least = _number(request.args, "min_worker", 1, most=MOST_WORKERS)
    most = _number(request.args, "max_worker", least, most=MOST_WORKERS)
    synchronous = _flag(request.args, "synchronous", False)
    scale(services().registry, name, least, most, synchronous)
    return _scale_response(synchronous)


@bp.delete("/models/<name>", strict_slashes=False, provide_automatic_options=False)
def unregister_model(name: str) -> Response:
    services().registry.unregister(name)
    return _json({"status": f'Model "{name}" unregistered'})


def _scale_response(synchronous: bool) -> Response:
    if synchronous:
        return _json({"status": "Workers scaled"})
    return _json({"status": "Processing worker updates..."}, 202)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return json_response(document, status, newline=True)


def _parameters() -> dict[str, Any]:
    """Return the parameters of a JSON body if there is one, else of the query."""
    if request.mimetype != "application/json":
        return dict(request.args)
    data = whole_body()
    for text in (data, data.replace(b"'", b'"')):  # MMS accepts single quotes, too, and its own tests send them
        try:
            document = parse_json(text, services().settings.max_json_depth)
        except ValueError as error:
            reason = str(error)
            continue
        if isinstance(document, dict):
            _check_lengths(document)
            return document
        reason = "it is something else"
    expected = 'a JSON object, such as {"url": "squeezenet.mar"}'
    raise BadParameter("body", data[:80].decode(errors="replace"), f"{expected} ({reason[:200]})")


def _check_lengths(parameters: dict[str, Any]) -> None:
    """Check the lengths of text parameters.

    :raises BadParameter: if a text is longer than a query could be.
    """
    for name, value in parameters.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise BadParameter(name, value, f"at most {LONGEST_VALUE} characters long")


def _number(parameters: Any, key: str, default: int, least: int = -LARGEST, most: int = LARGEST) -> int:
    """Return a 32-bit whole number; the default if the value is not one, as in MMS."""
    text = str(parameters.get(key, default))
    number = int(text) if INTEGER.fullmatch(text) and abs(int(text)) <= LARGEST else default
    if number < least:
        raise BadParameter(key, number, f"a whole number of at least {least}")
    if number > most:
        raise BadParameter(key, number, f"at most {most}")
    return number


def _flag(parameters: Any, key: str, default: bool) -> bool:
    value = parameters.get(key)
    return default if value is None else str(value).lower() == "true"


def _timeout(parameters: dict[str, Any]) -> float:
    """Return the response timeout in seconds. MMS reads ``response_timeout`` as minutes in a query, as seconds in
    JSON."""
    minutes_or_seconds = _number(parameters, "response_timeout", 0)
    if minutes_or_seconds < 1:
        return 0.0
    return float(minutes_or_seconds * (1 if request.mimetype == "application/json" else 60))
