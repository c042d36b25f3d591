"""Form at ``/``, its results at ``/file/``, and the webcam pages."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, render_template, request, url_for

from app.errors import BadInput, BadParameter, EmptyFile, TooManyFiles
from app.serving.model import Model
from app.serving.pipeline import open_picture, postprocess, prepare
from app.serving.serializers import answer_document
from app.settings import ROOT
from app.web.csrf import remember, visitor, visitor_or_new
from app.web.errors import ErrorBody, error_body
from app.web.pages.view_models import (
    ResultView,
    face_kind,
    faces_summary,
    from_store,
    from_upload,
    headline,
    model_cards,
    plain_label,
    spoken_time,
    wants_part,
)
from app.web.request import Upload, check_filled, client_disconnected, read_top, read_uploads, services, wants_html

live_bp = Blueprint("live", __name__)

SMILES = ("smiling", "non-smiling")
"""Labels of a model that recognizes smiles."""


@live_bp.get("/live")
def live() -> Response:
    """Show the webcam with a frame around every face and its smile score."""
    return make_response(render_template("live.html", model=_smile_model()))


@live_bp.get("/gate")
def gate() -> Response:
    """Show a door that opens when everybody in view smiles for one second."""
    return make_response(render_template("gate.html", model=_smile_model()))


def _smile_model() -> str:
    """Return the name of a loaded model that finds faces and recognizes smiles; empty if there is none."""
    for entry in services().registry.entries():
        model = entry.model
        if isinstance(model, Model) and model.preprocess.faces and set(SMILES) <= set(model.labels):
            return entry.name
    return ""


bp = Blueprint("pages", __name__)
bp.add_app_template_filter(spoken_time)
for _filter in (plain_label, headline, face_kind, faces_summary):
    bp.add_app_template_filter(_filter)

SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
SUFFIX |= {"AVIF": ".avif", "HEIC": ".heic"}

LONGEST_NAME = 200
"""Maximum number of characters stored of a client's file name."""


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


@bp.get("/")
def form() -> str:
    """Show the form, with images and a choice of model."""
    here = services()
    default = default_model()
    models = model_cards(here.registry.entries())
    models.sort(key=lambda model: model.name != default)
    names = {model.name for model in models}
    recent = here.uploads.count(visitor()) if visitor() else 0
    return render_template(
        "form.html",
        models=models,
        default=default,
        samples=[sample for sample in SAMPLES.values() if sample.model in names],
        settings=here.settings,
        recent=recent,
    )


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
    uploads, model = _request_pictures()
    owner = visitor_or_new() if wants_html() or wants_part() else ""
    if len(uploads) == 1:
        _check_filled(uploads[0])
        return remember(_respond(_classify(uploads[0], model, owner)), owner)
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
    return remember(make_response(render_template("results.html", results=results, problems=problems)), owner)


def _request_pictures() -> tuple[list[Upload], str]:
    """Return the images of a request and the model that it names. An image is uploaded, a sample, or stored before."""
    here = services()
    name = request.form.get("model") or request.args.get("model") or default_model()
    if sample := request.form.get("sample"):
        return [_sample(sample)], SAMPLES[sample].model
    if again := request.form.get("again"):
        before = here.uploads.find(again)
        if before is None:
            raise BadParameter("again", again, "the number of a picture that is kept; send it once more")
        return [Upload(before.record["name"], before.path.read_bytes())], name
    uploads = read_uploads(here.settings.max_files + 1)
    filled = [upload for upload in uploads if upload.name or upload.data] or uploads[:1]  # drops a form's empty fields
    if len(filled) > here.settings.max_files:
        raise TooManyFiles(len(filled), here.settings.max_files)
    return filled, name


def _sample(name: str) -> Upload:
    sample = SAMPLES.get(name)
    if sample is None:
        raise BadParameter("sample", name, f"one of {', '.join(SAMPLES)}")
    path = ROOT / "static" / sample.file
    return Upload(path.name, path.read_bytes())


def _check_filled(upload: Upload) -> None:
    if request.files or not upload.data:
        check_filled(upload)


def _classify(upload: Upload, name: str, owner: str) -> ResultView:
    """Classify one image and store it."""
    here = services()
    top = read_top()
    stays = here.uploads.keeps(upload.data)
    with here.registry.acquire_builtin(name) as model:
        with open_picture(upload.data, here.settings.picture_limits, model.draft_side) as picture:
            prepared = prepare(model, picture)
            size: dict[str, Any] = dict(zip(("width", "height"), picture.size, strict=True))
            suffix = SUFFIX[picture.format]
            extra: dict[str, Any] = from_upload(model, picture, prepared) if owner and not stays else {}
        answer = answer_document(postprocess(model, prepared, top, client_disconnected()))
    record = {"name": upload.name[:LONGEST_NAME], "answer": answer, **size}
    identity = here.uploads.keep(upload.data, suffix, owner, record)
    upload_found = here.uploads.find(identity) if identity else None
    return from_store(upload_found) if upload_found else ResultView(answer, upload.name, **{**size, **extra})


def _classify_or_explain(upload: Upload, name: str, owner: str) -> ResultView | ErrorBody:
    try:
        if not upload.data:
            raise EmptyFile(upload.name)
        return _classify(upload, name, owner)
    except BadInput as error:
        return error_body(error)


def _respond(view: ResultView) -> Response:
    if wants_part():
        return make_response(render_template("_result.html", result=view))
    if not wants_html():
        return jsonify(view.answer)
    return make_response(render_template("result.html", result=view))
