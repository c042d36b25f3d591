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
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import NotFound, abort

from app.backend.sources import ARCHIVE_SUFFIXES
from app.errors import BadParameter, DimpleError
from app.serving.management import RegistrationRequest, register, scale
from app.serving.teaching_projects import Projects
from app.settings import ROOT
from app.utils.progress import record_progress
from app.web.csrf import add_form_cookie, check_form, form_token
from app.web.pages.about import about_view, public_problem
from app.web.pages.model_table import last_day, model_rows, sparkline
from app.web.pages.view_models import corrections, read_document, requested_part
from app.web.ports import port_scope
from app.web.request import services

bp = Blueprint("manage", __name__, url_prefix="/manage", static_folder=str(ROOT / "static"), static_url_path="/static")

PROGRESS_ID = re.compile(r"[0-9a-f]{16}")
PAGES = ("manage", "teach")
"""Blueprints of the management pages."""
MOST_WORKERS = 64


@bp.app_context_processor
def _port_context() -> dict[str, bool]:
    """Return ``managing``, with which templates link to files and addresses of the management port."""
    here = port_scope()
    if request.blueprint in PAGES:
        return {"managing": here.management}
    return {"managing": request.blueprint == "openapi" and here.management and not here.inference}


@bp.app_template_filter("points")
def _points(values: Sequence[float]) -> str:
    return sparkline(values)


@bp.before_request
def _only_management() -> None:
    """Reject the request at a port without management, in addition to the check that every route has."""
    if not port_scope().management:
        abort(404)


@bp.app_context_processor
def _start_page() -> dict[str, str]:
    """Return the address of the port of predictions for the links of management pages; empty if it is unknown."""
    here = services().settings
    if port_scope().inference or here.host.startswith("unix:"):
        return {"start_page": ""}
    scheme = "https" if here.certificate_file and here.https in ("both", "inference") else "http"
    host = request.host.rpartition(":")[0] if re.search(r":\d+$", request.host) else request.host
    return {"start_page": f"{scheme}://{host}:{here.port}/"}


@bp.get("/", strict_slashes=False)
def models() -> Response:
    """Show every model with its state, engine, workers and counts; for the page's script, the table alone."""
    if requested_part():
        return make_response(render_template("_models.html", models=model_rows()))
    return _page()


@bp.get("/state")
def state() -> Response:
    """Return every model as JSON for the page's charts. Counts cover all processes since the server's start."""
    return make_response(jsonify({"models": model_rows()}), {"Cache-Control": "no-store"})


@bp.get("/models/<name>")
def details(name: str) -> Response:
    """Show the details of a model with its last 24 hours; for the page's script, a part of the page."""
    entry = services().registry.entry(name)
    (row,) = model_rows([entry])
    context: dict[str, Any] = {"model": row, "day": last_day(name), "most_workers": MOST_WORKERS}
    if requested_part():
        return make_response(render_template("_model.html", token=form_token(), **context))
    return management_page("model.html", **context)


@bp.get("/about/<name>")
def about(name: str) -> Response:
    """Show the page of a model, with its corrections."""
    return management_page(
        "about.html",
        about=about_view(services().registry.entry(name), _start_page()["start_page"]),
        corrections=corrections().count(name),
        project=Projects(services().settings.instance_dir / "teach").of_model(name),
    )


@bp.get("/catalogue")
def catalogue() -> Response:
    """Return the models that can be registered by name."""
    names = services().registry.names()
    return jsonify([{**model, "registered": model["name"] in names} for model in services().catalogue()])


@bp.get("/progress/<identity>")
def progress(identity: str) -> Response:
    """Return the progress of a registration; an empty object if it has none."""
    if not PROGRESS_ID.fullmatch(identity):
        raise NotFound
    return make_response(jsonify(read_document(_progress_file(identity))), {"Cache-Control": "no-store"})


@bp.post("/register")
def register_model() -> Response:
    """Register an uploaded archive, one at a URL or in the models folder, or a model of the catalogue."""
    request.max_content_length = services().settings.max_model_bytes
    check_form()
    return _done(_register_with_progress)


@bp.post("/<name>/scale")
def scale_model(name: str) -> Response:
    """Change the number of a model's workers."""
    check_form()
    return _done(lambda: scale(services().registry, name, workers := _workers(), workers, synchronous=False))


@bp.post("/<name>/unregister")
def unregister_model(name: str) -> Response:
    check_form()
    return _done(lambda: services().registry.unregister(name))


def _register_with_progress() -> None:
    identity = request.form.get("progress", "")
    if not PROGRESS_ID.fullmatch(identity):
        _register()
        return
    file = _progress_file(identity)
    file.parent.mkdir(parents=True, exist_ok=True)
    record_progress(file)
    try:
        _register()
    finally:
        record_progress(None)
        file.unlink(missing_ok=True)


def _progress_file(identity: str) -> Path:
    return services().settings.instance_dir / "progress" / f"{identity}.json"


def _register() -> None:
    here = services()
    sent = request.files.get("archive")
    order = RegistrationRequest(
        url=request.form.get("url", "").strip(),
        name=request.form.get("model_name", "").strip(),
        workers=_workers(),
        runtime="python",
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


def _page(error: DimpleError | None = None) -> Response:
    return management_page("manage.html", error, models=model_rows(), settings=services().settings)


def management_page(template: str, error: DimpleError | None = None, **context: Any) -> Response:
    """Return a management page whose forms :func:`app.web.csrf.check_form` accepts.

    :param error: error that the page shows, and whose status the response has.
    """
    token = context.setdefault("token", form_token())
    problem = public_problem(error) if error else None
    page = render_template(template, problem=problem, **context)
    response = make_response(page, problem.code if problem else 200)
    return add_form_cookie(response, token, url_for("manage.models"))


def _done(work: Callable[[], object]) -> Response:
    """Run the action and show the page again: with the new state, or with the error."""
    try:
        work()
    except DimpleError as error:
        if requested_part():
            problem = public_problem(error)
            return make_response(jsonify(asdict(problem)), problem.code)
        return _page(error)
    if requested_part():
        return make_response(render_template("_models.html", models=model_rows()))
    return make_response(redirect(url_for("manage.models"), 303))
