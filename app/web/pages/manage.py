"""The models page: the state of every model; register, scale and unregister models in a browser.

The page does the same as the management API, with the same code, and answers only at the same port. Three measures keep
out requests forged by pages of other sites. The request must come from this page (Sec-Fetch-Site, Origin). The form
must carry the token of a cookie that browsers do not send from other sites. If management listens on this machine
alone, the Host header must name this machine, not a domain that somebody else has pointed at it.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import abort

from app.backend.sources import ARCHIVE_SUFFIXES
from app.errors import BadParameter, DimpleError
from app.serving.loader import Entry
from app.serving.management import RegistrationRequest, Scale, describe, register, scale
from app.serving.serializers import entry_document
from app.settings import ROOT
from app.telemetry.multiprocess import Count, counts
from app.web.csrf import add_form_cookie, check_form, form_token
from app.web.errors import ErrorBody, error_body
from app.web.ports import port_scope
from app.web.request import services

bp = Blueprint("manage", __name__, url_prefix="/manage", static_folder=str(ROOT / "static"), static_url_path="/static")

PAGES = ("manage", "teach")
"""Blueprints of the management pages."""
MOST_WORKERS = 64


@bp.app_context_processor
def _port_context() -> dict[str, bool]:
    """Return ``managing``, with which templates link to files and addresses of the management port."""
    return {"managing": request.blueprint in PAGES and port_scope().management}


@bp.before_request
def _only_management() -> None:
    """Reject the request at a port without management, in addition to the check that every route has."""
    if not port_scope().management:
        abort(404)


@bp.get("/", strict_slashes=False)
def models() -> Response:
    """Show every model with its state, engine, workers and counts."""
    return _page()


@bp.get("/state")
def state() -> Response:
    """Return every model as JSON for the page's charts. Counts cover all processes since the server's start."""
    response = jsonify({"models": _facts()})
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.post("/register")
def register_model() -> Response:
    """Register an uploaded archive, or one at a URL or in the models folder."""
    request.max_content_length = services().settings.max_model_bytes
    check_form()
    return _done(_register)


@bp.post("/<name>/scale")
def scale_model(name: str) -> Response:
    """Change the number of a model's workers."""
    check_form()
    return _done(lambda: scale(services().registry, name, Scale(workers := _workers(), workers), synchronous=False))


@bp.post("/<name>/unregister")
def unregister_model(name: str) -> Response:
    """Unregister a model."""
    check_form()
    return _done(lambda: services().registry.unregister(name))


def _register() -> None:
    here = services()
    sent = request.files.get("archive")
    order = RegistrationRequest(
        url=request.form.get("url", "").strip(),
        name=request.form.get("model_name", "").strip(),
        handler="",
        runtime="python",
        batch_size=1,
        max_batch_delay=100,
        workers=_workers(),
        response_timeout=0.0,
    )
    if sent is None or not sent.filename:
        register(here.registry, order, here.settings, here.by_name)
        return
    folder = here.settings.instance_dir / "uploaded" / secrets.token_hex(8)
    try:
        archive = _store_archive(sent, folder)
        # register() searches the models folder; an uploaded archive is in a folder of its own
        register(here.registry, replace(order, url=archive.name), replace(here.settings, models_dir=folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _store_archive(sent: FileStorage, folder: Path) -> Path:
    """Save the uploaded archive under a safe file name, and return its path."""
    filename = (sent.filename or "").replace("\\", "/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", filename).lstrip(".")
    if not name.lower().endswith(ARCHIVE_SUFFIXES):
        raise BadParameter("archive", filename, f"a model archive, called *{', *'.join(ARCHIVE_SUFFIXES)}")
    folder.mkdir(parents=True)
    sent.save(folder / name)
    return folder / name


def _workers() -> int:
    text = request.form.get("workers", "1")
    if not text.isdecimal() or len(text) > 3 or int(text) > MOST_WORKERS:
        raise BadParameter("workers", text, f"a whole number from 0 to {MOST_WORKERS}")
    return int(text)


def _facts() -> list[dict[str, Any]]:
    counted = counts()
    return [_fact(entry, counted.get(entry.name, Count())) for entry in services().registry.entries()]


def _fact(entry: Entry, counted: Count) -> dict[str, Any]:
    document = entry_document(entry)
    workers = describe(entry)["workers"]
    return {
        **{key: value for key, value in document.items() if key not in ("labels", "input")},
        "url": entry.registration.url,
        "min_workers": entry.registration.min_workers,
        "workers": [worker["status"] for worker in workers],
        "counts": asdict(counted),
    }


def _page(problem: ErrorBody | None = None) -> Response:
    token = form_token()
    page = render_template("manage.html", models=_facts(), token=token, problem=problem, settings=services().settings)
    response = make_response(page, problem.code if problem else 200)
    return add_form_cookie(response, token, url_for("manage.models"))


def _done(work: Callable[[], object]) -> Response:
    """Run the action and show the page again: with the new state, or with the error."""
    try:
        work()
    except DimpleError as error:
        return _page(error_body(error))
    return make_response(redirect(url_for("manage.models"), 303))
