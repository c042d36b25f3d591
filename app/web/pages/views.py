"""Form at ``/``, its results at ``/file/``, the webcam pages, and the icon."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, send_file, url_for

from app.errors import BadInput, BadParameter, EmptyFile, ModelNotFound, TooManyFiles
from app.serving.pipeline import open_picture, postprocess, prepare
from app.serving.serializers import answer_document
from app.settings import ROOT
from app.web.csrf import remember, visitor_or_new
from app.web.errors import ErrorBody, error_body
from app.web.pages.labels import display_name, face_kind, percent, spoken_time, synonyms, unsure_reason
from app.web.pages.view_models import ResultView, from_store, from_upload, headline, loaded_models, requested_part
from app.web.pages.workbench import SAMPLES, answers_of, compared_models, default_model, result_response, workbench
from app.web.request import Upload, check_filled, client_disconnected, read_top, read_uploads, services, wants_html

live_bp = Blueprint("live", __name__)

DAY = 24 * 3600
SMILES = ("smiling", "non-smiling")
"""Labels of a model that recognizes smiles."""


@live_bp.get("/live")
def live() -> Response:
    """Show the webcam with the answers of the model ``?model=``, by default of one that recognizes smiles."""
    models = loaded_models()
    usual = _smile_model() or next(iter(models), "")
    name = request.args.get("model", usual)
    if models and name not in models:
        raise ModelNotFound(name, list(models))
    return make_response(render_template("live.html", model=models.get(name), models=list(models)))


@live_bp.get("/gate")
def gate() -> Response:
    """Show a door that opens when everybody in view smiles for one second."""
    return make_response(render_template("gate.html", model=_smile_model()))


def _smile_model() -> str:
    """Return the name of a loaded model that finds faces and recognizes smiles; empty if there is none."""
    for name, model in loaded_models().items():
        if model.preprocess.faces and set(SMILES) <= set(model.labels):
            return name
    return ""


icon_bp = Blueprint("icon", __name__)


@icon_bp.get("/favicon.ico")
def favicon() -> Response:
    """Return the logo in the format of old browsers, which request it for responses that are no pages, too."""
    return send_file(ROOT / "static" / "favicon.ico", "image/x-icon", max_age=DAY)


bp = Blueprint("pages", __name__)
for _filter in (display_name, synonyms, unsure_reason, face_kind, percent, spoken_time, headline):
    bp.add_app_template_filter(_filter)

LONGEST_NAME = 200
"""Maximum number of characters stored of a client's file name."""


@bp.get("/")
def form() -> Response:
    """Show the form, with images and a choice of model."""
    return workbench()


@bp.get("/index.html")
def show_index() -> Response:
    """Redirect from the address of a static index page to the form."""
    return make_response(redirect(url_for("pages.form"), 301))


@bp.get("/file/")
def show_form() -> Response:
    """Redirect a GET request for the form's target to the form."""
    return make_response(redirect(url_for("pages.form"), 303))


@bp.post("/file/", strict_slashes=False)
def classify() -> Response:
    """Classify the images of the form, and store them for as long as the settings say.

    With several images, each has its result or its error in its place.
    """
    uploads, model, source = _request_pictures()
    part = requested_part()
    owner = visitor_or_new() if part or wants_html() else ""
    if len(uploads) == 1:
        _check_filled(uploads[0])
        view = _classify(uploads[0], model, owner, source)
        return remember(result_response(view) if owner else jsonify(view.answer), owner)
    outcomes = [_classify_or_explain(upload, model, owner) for upload in uploads]
    if not wants_html():
        return jsonify(
            [{"error": asdict(outcome)} if isinstance(outcome, ErrorBody) else outcome.answer for outcome in outcomes]
        )
    problems = [
        (upload.name, outcome)
        for upload, outcome in zip(uploads, outcomes, strict=True)
        if isinstance(outcome, ErrorBody)
    ]
    results = [outcome for outcome in outcomes if isinstance(outcome, ResultView)]
    page = render_template("results.html", results=results, problems=problems)
    return remember(make_response(page), owner)


def _request_pictures() -> tuple[list[Upload], str, str]:
    """Return the images of a request, the model that it names, and the id of the upload that an image was taken from.

    An image is uploaded, a sample, or stored before.
    """
    here = services()
    name = request.form.get("model") or request.args.get("model") or default_model()
    if sample := request.form.get("sample"):
        return [_sample(sample)], SAMPLES[sample].model, ""
    if again := request.form.get("again"):
        before = here.uploads.find(again)
        if before is None:
            raise BadParameter("again", again, "the number of a picture that is kept; send it once more")
        source = before.record.get("source", before.id)
        return [Upload(before.record["name"], before.path.read_bytes())], name, source
    uploads = read_uploads(here.settings.max_files + 1)
    filled = [upload for upload in uploads if upload.name or upload.data] or uploads[:1]  # drops a form's empty fields
    if len(filled) > here.settings.max_files:
        raise TooManyFiles(len(filled), here.settings.max_files)
    return filled, name, ""


def _sample(name: str) -> Upload:
    sample = SAMPLES.get(name)
    if sample is None:
        raise BadParameter("sample", name, f"one of {', '.join(SAMPLES)}")
    path = ROOT / "static" / sample.file
    return Upload(path.name, path.read_bytes())


def _check_filled(upload: Upload) -> None:
    if request.files or not upload.data:
        check_filled(upload)


def _classify(upload: Upload, name: str, owner: str, source: str = "") -> ResultView:
    """Classify one image and store it.

    :param source: id of the upload whose image it is; the copies of an image are deleted together.
    """
    here = services()
    top = read_top()
    stays = here.uploads.keeps(upload.data)
    with here.registry.acquire_builtin(name) as model:
        with open_picture(upload.data, here.settings.picture_limits, model.draft_side) as picture:
            prepared = prepare(model, picture)
            size: dict[str, Any] = dict(zip(("width", "height"), picture.size, strict=True))
            extra: dict[str, Any] = from_upload(model, picture, prepared) if owner and not stays else {}
        answer = answer_document(postprocess(model, prepared, top, client_disconnected()))
    others = answers_of(compared_models(name), upload.data) if owner else []
    record = {"name": upload.name[:LONGEST_NAME], "answer": answer, **size} | ({"source": source} if source else {})
    identity = here.uploads.keep(upload.data, picture.suffix, owner, record)
    upload_found = here.uploads.find(identity) if identity else None
    if upload_found:
        return from_store(upload_found, others)
    return ResultView(answer, upload.name, **{**size, **extra}, others=tuple(others))


def _classify_or_explain(upload: Upload, name: str, owner: str) -> ResultView | ErrorBody:
    try:
        if not upload.data:
            raise EmptyFile(upload.name)
        return _classify(upload, name, owner)
    except BadInput as error:
        return error_body(error)
