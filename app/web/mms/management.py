"""The management API of Multi Model Server: register, describe, scale and unregister models while the server runs.

Numbers are read as MMS reads them: a text that is none, or one beyond 32 bits, counts as if it were not there. What no
model can have (a batch of none, more workers than a machine has room for) is refused; MMS takes it, and fails later.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import BadParameter
from app.serving.management import RegistrationRequest, Scale, describe, listed, register, scale
from app.web.csrf import check_same_origin
from app.web.errors import mms_error_response
from app.web.json import parse_json
from app.web.mms.responses import json_response, mark
from app.web.request import dimple, whole_body

bp = Blueprint("management", __name__)
bp.register_error_handler(Exception, mms_error_response)
bp.after_request(mark)

INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
LARGEST = 2**31 - 1
MOST_WORKERS = 1024
LONGEST_VALUE = 4094


@bp.before_request
def _check() -> None:
    """No more than is allowed is read. And a page of another site could have the browser of somebody on this machine
    register a model: MMS lets it."""
    if (request.content_length or 0) > dimple().settings.max_request_bytes:
        raise RequestEntityTooLarge()
    if request.method != "GET" and not dimple().settings.cors_allowed_origin:
        check_same_origin()


@bp.get("/models", strict_slashes=False, provide_automatic_options=False)
def list_models() -> Response:
    """The registered models, by name, in pages."""
    limit, start = _number(request.args, "limit", 100), _number(request.args, "next_page_token", 0)
    return _told(listed(dimple().registry, limit, start))


@bp.post("/models", strict_slashes=False, provide_automatic_options=False)
def register_model() -> Response:
    """Register the model that lies at ``url``. MMS's document calls it ``model_url``, which counts where ``url`` is not
    there."""
    given = _given()
    settings = dimple().settings
    order = RegistrationRequest(
        url=str(given.get("url") or given.get("model_url") or ""),
        name=str(given.get("model_name") or ""),
        handler=str(given.get("handler") or ""),
        runtime=str(given.get("runtime") or ""),
        batch_size=_at_least(given, "batch_size", 1, low=1),
        max_batch_delay=_at_least(given, "max_batch_delay", 100, low=0),
        workers=_workers(given, "initial_workers", settings.default_workers_per_model),
        response_timeout=_timeout(given),
        replacing=_flag(given, "replace", False),
    )
    entry = register(dimple().registry, order, settings, dimple().by_name)
    if order.workers < 1:
        return _told({"status": f'Model "{entry.name}" registered'})
    return _scaled(_flag(given, "synchronous", True))


@bp.get("/models/<name>", strict_slashes=False, provide_automatic_options=False)
def describe_model(name: str) -> Response:
    """One model, with its workers."""
    return _told(describe(dimple().registry.entry(name)))


@bp.put("/models/<name>", strict_slashes=False, provide_automatic_options=False)
def scale_model(name: str) -> Response:
    """Give a model more workers, or fewer."""
    least = _workers(request.args, "min_worker", 1)
    wanted = Scale(least, _workers(request.args, "max_worker", least))
    synchronous = _flag(request.args, "synchronous", False)
    scale(dimple().registry, name, wanted, synchronous)
    return _scaled(synchronous)


@bp.delete("/models/<name>", strict_slashes=False, provide_automatic_options=False)
def unregister_model(name: str) -> Response:
    """Take a model out of service."""
    dimple().registry.unregister(name)
    return _told({"status": f'Model "{name}" unregistered'})


def _scaled(synchronous: bool) -> Response:
    if synchronous:
        return _told({"status": "Workers scaled"})
    return _told({"status": "Processing worker updates..."}, 202)


def _told(document: dict[str, Any], status: int = 200) -> Response:
    return json_response(document, status, newline=True)


def _given() -> dict[str, Any]:
    """The parameters: of a JSON body where there is one, else of the query."""
    if request.mimetype != "application/json":
        return dict(request.args)
    data = whole_body()
    for text in (data, data.replace(b"'", b'"')):  # MMS reads single quotes, too, and its own tests send them
        try:
            document = parse_json(text, dimple().settings.max_json_depth)
        except ValueError as error:
            reason = str(error)
            continue
        if isinstance(document, dict):
            _check_lengths(document)
            return document
        reason = "it is something else"
    expected = 'a JSON object, such as {"url": "squeezenet.mar"}'
    raise BadParameter("body", data[:80].decode(errors="replace"), f"{expected} ({reason[:200]})")


def _check_lengths(given: dict[str, Any]) -> None:
    """:raises BadParameter: if a text is longer than it could be in a query."""
    for name, value in given.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise BadParameter(name, value, f"at most {LONGEST_VALUE} characters long")


def _number(given: Any, key: str, default: int) -> int:
    """A whole number of 32 bits; where it is none, the default, as MMS does it."""
    text = str(given.get(key, default))
    return int(text) if INTEGER.fullmatch(text) and abs(int(text)) <= LARGEST else default


def _at_least(given: Any, key: str, default: int, low: int) -> int:
    number = _number(given, key, default)
    if number < low:
        raise BadParameter(key, number, f"a whole number of at least {low}")
    return number


def _workers(given: Any, key: str, default: int) -> int:
    number = _number(given, key, default)
    if number > MOST_WORKERS:
        raise BadParameter(key, number, f"at most {MOST_WORKERS}")
    return number


def _flag(given: Any, key: str, default: bool) -> bool:
    value = given.get(key)
    return default if value is None else str(value).lower() == "true"


def _timeout(given: dict[str, Any]) -> float:
    """Seconds. In a query MMS takes ``response_timeout`` for minutes, in JSON for seconds."""
    minutes_or_seconds = _number(given, "response_timeout", 0)
    if minutes_or_seconds < 1:
        return 0.0
    return float(minutes_or_seconds * (1 if request.mimetype == "application/json" else 60))
