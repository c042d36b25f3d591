"""Teach a model on a page: classes, their pictures, a training in the background, and its result.

Registering a model is running code, so these pages are at the management port alone, with the checks of
:mod:`app.web.pages.manage`: its authorization, and forms that only pages of this server can send.
"""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import NotFound

from app.errors import BadInput, DataError, DimpleError
from app.serving.feedback import stored_corrections
from app.serving.management import RegistrationRequest, register
from app.serving.serializers import answer_document
from app.serving.teaching_projects import Project, Projects, zipped_pictures
from app.serving.training_job import TrainingJob, Trials
from app.web.csrf import check_form
from app.web.pages.about import public_problem
from app.web.pages.manage import management_page
from app.web.pages.project_view import corrections_dir, project_summary, project_view, training_view
from app.web.pages.view_models import requested_part
from app.web.request import read_upload, services, wants_html

bp = Blueprint("teach", __name__, url_prefix="/manage/teach")


@bp.get("/", strict_slashes=False)
def projects() -> Response:
    """Show all projects, and a form for a new one."""
    return _overview()


@bp.post("/", strict_slashes=False)
def create() -> Response:
    """Create a project with a name and its classes."""
    check_form()
    labels = [label for label in request.form.getlist("class") if label.strip()]
    try:
        name = request.form.get("name", "").strip()
        project = _projects().create(name, labels, is_taken=name in services().registry)
    except DimpleError as error:
        return _overview(error, form=request.form)
    return _to(project)


@bp.post("/from/<model>")
def from_model(model: str) -> Response:
    """Open the project of a model, or create one with the classes of its corrections, and add the corrections."""
    check_form()
    project = _projects().of_model(model)
    if project is None:
        corrected = stored_corrections(corrections_dir(model))
        project = _projects().create(_free_name(model), sorted({label for label, _ in corrected}))
    _add_corrections(project, model)
    if project.name != model:
        project.note(origin=model)
    return _to(project)


@bp.get("/<identity>")
def project(identity: str) -> Response:
    """Show a project; ``X-Part: result`` returns the part of the page that changes."""
    found = _projects().get(identity)
    if not requested_part():
        return _page(found)
    if "training" in request.args:
        return make_response(render_template("_training.html", **training_view(found)))
    return make_response(render_template("_project.html", **_view(found)))


@bp.get("/<identity>/state")
def state(identity: str) -> Response:
    """Return the state of a project as JSON."""
    found = _projects().get(identity)
    job = _job(found)
    running = job.state()
    result = job.result()
    document = {
        "name": found.name,
        "classes": {kind.label: len(kind.pictures) for kind in found.classes()},
        "training": {key: value for key, value in vars(running).items() if value not in ("", None)},
        "result": {"accuracy": result.metrics["accuracy"], "used": result.used} if result else None,
    }
    return make_response(jsonify(document), {"Cache-Control": "no-store"})


@bp.post("/<identity>/delete")
def delete(identity: str) -> Response:
    """Delete a project with its pictures, and cancel its training."""
    check_form()
    found = _projects().get(identity)
    _job(found).cancel()
    _projects().delete(found)
    return make_response(redirect(url_for("teach.projects"), 303))


@bp.post("/<identity>/classes")
def add_class(identity: str) -> Response:
    return _change(identity, lambda found: found.add_class(request.form.get("class", "")))


@bp.post("/<identity>/classes/rename")
def rename_class(identity: str) -> Response:
    """Give a class another label."""
    form = request.form
    return _change(identity, lambda found: found.rename_class(form.get("class", ""), form.get("to", "")))


@bp.post("/<identity>/classes/remove")
def remove_class(identity: str) -> Response:
    return _change(identity, lambda found: found.remove_class(request.form.get("class", "")))


@bp.post("/<identity>/pictures")
def add_pictures(identity: str) -> Response:
    """Add pictures, or zips of them, to a class.

    Without a class, the folders of a zip name the classes of its pictures.
    """
    request.max_content_length = services().settings.max_model_bytes
    check_form()
    found = _projects().get(identity)
    label = request.form.get("class", "")
    added, same = 0, 0
    refused: list[dict[str, str]] = []
    for file in request.files.getlist("file"):
        for name, inside, data in _pictures(file, refused):
            try:
                is_new = _add(found, label, inside, data)
            except BadInput as error:
                refused.append({"name": name, "message": str(error)})
            else:
                added, same = added + is_new, same + (not is_new)
    if not wants_html():
        return jsonify({"added": added, "same": same, "refused": refused})
    if refused:
        return _page(found, BadInput(refused[0]["message"]))
    return _to(found)


@bp.post("/<identity>/pictures/remove")
def remove_picture(identity: str) -> Response:
    form = request.form
    return _change(identity, lambda found: found.remove(form.get("class", ""), form.get("picture", "")))


@bp.post("/<identity>/pictures/move")
def move_picture(identity: str) -> Response:
    """Move a picture to another class."""
    form = request.form
    return _change(
        identity, lambda found: found.move(form.get("class", ""), form.get("picture", ""), form.get("to", ""))
    )


@bp.get("/<identity>/pictures/<picture>")
def picture(identity: str, picture: str) -> Response:
    data = _projects().get(identity).thumbnail(picture)
    if data is None:
        raise NotFound
    # the name is the hash of the content
    return make_response(data, {"Content-Type": "image/jpeg", "Cache-Control": "private, max-age=86400"})


@bp.post("/<identity>/corrections")
def add_corrections(identity: str) -> Response:
    """Add the corrections that visitors have made to the model's answers."""
    return _change(identity, lambda found: _add_corrections(found, found.fact("origin") or found.name))


@bp.post("/<identity>/train")
def train(identity: str) -> Response:
    """Start a training in the background."""
    return _change(identity, lambda found: _job(found).start(_projects()))


@bp.post("/<identity>/cancel")
def cancel(identity: str) -> Response:
    return _change(identity, lambda found: _job(found).cancel())


@bp.post("/<identity>/try")
def try_result(identity: str) -> Response:
    """Classify a picture with the trained model, which is not served yet."""
    check_form()
    found = _projects().get(identity)
    try:
        result = _job(found).result()
        if result is None:
            raise BadInput("There is no trained model yet. Train one first.")
        answer = answer_document(_trials(services().settings).classify(result.folder, read_upload().data))
    except DimpleError as error:
        if not wants_html():
            raise
        return _page(found, error)
    return _page(found, answer=answer) if wants_html() else jsonify(answer)


@bp.post("/<identity>/use")
def use(identity: str) -> Response:
    """Serve the trained model, in place of an earlier one of this project."""
    return _change(identity, _use)


def _use(found: Project) -> None:
    here = services()
    folder = _job(found).promote()
    order = RegistrationRequest(
        url=folder.name, name=folder.name, workers=1, runtime="python", replacing=folder.name in here.registry
    )
    register(here.registry, order, here.settings)


def _change(identity: str, work: Callable[[Project], object]) -> Response:
    """Change a project, and show it again: with the new state, or with the error."""
    check_form()
    found, problem = _projects().get(identity), None
    try:
        work(found)
    except DimpleError as error:
        if wants_html():
            return _page(found, error)
        if not requested_part():
            raise
        problem = public_problem(error)
    if not requested_part():
        return _to(found)
    part = render_template("_project.html", problem=problem, **_view(found))
    return make_response(part, problem.code if problem else 200)


def _pictures(file: FileStorage, refused: list[dict[str, str]]) -> Iterator[tuple[str, str, bytes]]:
    """Yield the pictures of a file: the name, the folder in a zip, and the bytes.

    :param refused: list that collects what cannot be read.
    """
    name = (file.filename or "picture")[:200]
    is_zip = zipfile.is_zipfile(file.stream)
    file.stream.seek(0)
    if not is_zip:
        yield name, "", file.stream.read(services().settings.max_request_bytes + 1)
        return
    with tempfile.TemporaryDirectory(prefix="dimple-") as folder:
        path = Path(folder) / "pictures.zip"
        file.save(path)
        try:
            for inside, picture, data in zipped_pictures(path):
                yield f"{name}: {picture}", inside, data
        except DataError as error:
            refused.append({"name": name, "message": str(error).replace(str(path), name)})


def _add(found: Project, label: str, folder: str, data: bytes) -> bool:
    """Add a picture to a class, without a label to the class that is named as its folder in a zip."""
    settings = services().settings
    if len(data) > settings.max_request_bytes:
        raise BadInput(f"A picture may have {settings.max_request_bytes / 2**20:,.0f} MB. Choose a smaller file.")
    return found.add(label or found.add_class(folder), data, settings.picture_limits)


def _add_corrections(found: Project, model: str) -> None:
    for label, path in stored_corrections(corrections_dir(model)):
        with contextlib.suppress(BadInput, OSError):  # removed meanwhile, or the project is full
            found.add(found.add_class(label), path.read_bytes(), services().settings.picture_limits)


def _view(found: Project) -> dict[str, Any]:
    return {**project_view(found), "all": "all" in request.args}


def _free_name(model: str) -> str:
    """Return a name for a project that starts from a model of another origin."""
    names = (f"{model}-taught{number}" for number in ("", *range(2, 1000)))
    return next(name for name in names if name not in services().registry and not _projects().of_model(name))


def _projects() -> Projects:
    return Projects(services().settings.instance_dir / "teach")


def _job(found: Project) -> TrainingJob:
    return TrainingJob(found, services().settings)


_trials = cache(Trials)


def _overview(error: DimpleError | None = None, **context: Any) -> Response:
    summaries = [project_summary(project) for project in _projects().all()]
    return management_page("teach.html", error, projects=summaries, **context)


def _page(found: Project, error: DimpleError | None = None, **context: Any) -> Response:
    return management_page("project.html", error, **_view(found), **context)


def _to(found: Project) -> Response:
    return make_response(redirect(url_for("teach.project", identity=found.id), 303))
