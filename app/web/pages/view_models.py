"""View models of results and models, and programs in several languages that send an image to a model."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import request, url_for

from app.security.tokens import PREDICTION
from app.serving.explain import input_size
from app.serving.feedback import FeedbackStore
from app.serving.loader import Entry
from app.serving.model import Model
from app.serving.pipeline import Picture, PreparedInput
from app.serving.rendering import jpeg, png, tensor_image
from app.serving.uploads import StoredUpload, tag_of
from app.utils.json import read_object
from app.web.auth import authorizer
from app.web.csrf import visitor
from app.web.pages.labels import display_name, faces_summary, is_unsure, percent
from app.web.request import services

FEW = 4
"""Maximum number of labels that a description lists."""


@dataclass(frozen=True)
class ModelCard:
    """A model on the page.

    :param description: what the model does, as a sentence.
    :param accuracy: accuracy in percent, or else the number of classes; short enough for a pill.
    :param measured: accuracy with the images on which it was measured; empty if it has not been measured.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    accuracy: str
    measured: str


def model_cards(entries: list[Entry]) -> list[ModelCard]:
    """Return a card for every loaded model of Dimple's own engines."""
    return [_card(entry, entry.model) for entry in entries if isinstance(entry.model, Model)]


def describe_model(entry: Entry) -> str:
    """Return the manifest's description of a loaded model of our engines, or else a sentence about its labels."""
    assert isinstance(entry.model, Model)
    return _manifest_text(entry) or _description(entry.model)


def _card(entry: Entry, model: Model) -> ModelCard:
    share, measured = _accuracy(Path(entry.registration.path))
    return ModelCard(
        entry.name,
        describe_model(entry),
        model.labels,
        share or f"{len(model.labels):,} {'class' if len(model.labels) == 1 else 'classes'}",
        measured,
    )


def _description(model: Model) -> str:
    """Return a sentence about the model's labels."""
    if len(model.labels) > FEW:
        return f"Recognises {len(model.labels):,} classes."
    names = [display_name(label).lower() for label in model.labels]
    choice = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    return f"Finds faces, and classifies each as {choice}." if model.preprocess.faces else f"Classifies as {choice}."


def _manifest_text(entry: Entry) -> str:
    model_facts = read_document(Path(entry.registration.path) / "MAR-INF" / "MANIFEST.json").get("model")
    text = model_facts.get("description") if isinstance(model_facts, dict) else None
    return text if isinstance(text, str) else ""


def _accuracy(folder: Path) -> tuple[str, str]:
    """Return the measured accuracy of a model, alone and with the images; empty texts if there is none."""
    metrics = read_document(folder / "metrics.json")
    accuracy, count = metrics.get("accuracy"), metrics.get("n")
    if not isinstance(accuracy, float) or not isinstance(count, int):
        return "", ""
    share = percent(accuracy)
    if metrics.get("how"):  # of "dimple models train", whose figures are over its training images
        return share, f"{share} accuracy · {metrics['how']} on its {count:,} training images"
    return share, f"{share} accuracy · {count:,} test images"


def read_document(path: Path) -> dict[str, Any]:
    """Return a JSON object, read again when the file changes; empty if there is none."""
    try:
        return _read_once(path, path.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _read_once(path: Path, _changed: int) -> dict[str, Any]:
    return read_object(path)


PREVIEW_SIDE = 800
FEW_LABELS = 20
"""Maximum number of labels in a selection list; with more, the user searches for the label."""


@dataclass(frozen=True)
class ResultView:
    """A result on a page.

    :param answer: JSON document of the response.
    :param preview: address of the preview image.
    :param seen: addresses of the network's view, one for each face.
    :param id: result id; empty if the image is not stored, so that no later request can refer to it.
    :param mine: whether the viewer has uploaded the image.
    :param corrected: corrected labels by face number, from 1.
    :param others: documents of other models' responses to the same image.
    """

    answer: Mapping[str, Any]
    name: str
    width: int
    height: int
    preview: str = ""
    seen: tuple[str, ...] = ()
    id: str = ""
    mine: bool = False
    corrected: Mapping[str, str] = field(default_factory=dict)
    others: tuple[Mapping[str, Any], ...] = ()

    @property
    def document(self) -> str:
        """Return the JSON that a program gets."""
        return json.dumps(self.answer, indent=2, ensure_ascii=False)

    @property
    def answers(self) -> tuple[Mapping[str, Any], ...]:
        """Return the documents of all models, that of the result itself first."""
        return (self.answer, *self.others)

    @property
    def title(self) -> str:
        """Return the answer in a few words."""
        return headline(self.answer)

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the labels that a correction can choose from; empty if there are too many for a list."""
        model = self._model
        return model.labels if model and len(model.labels) <= FEW_LABELS else ()

    @property
    def loaded(self) -> bool:
        """Return whether the model of the result is still loaded."""
        return self._model is not None

    @property
    def input_size(self) -> tuple[int, int]:
        """Return the height and width of the network's input in pixels; 0 if the model is not loaded."""
        model = self._model
        return input_size(model.preprocess, model.input.shape) if model else (0, 0)

    @property
    def rivals(self) -> list[str]:
        """Return the other models that could classify the same image."""
        return [name for name in loaded_models() if name != self.answer["model"]]

    @property
    def token_needed(self) -> bool:
        """Return whether predictions require a token."""
        return authorizer().requires_token(PREDICTION)

    @property
    def corrections(self) -> int:
        """Return the number of corrections of the model, by all visitors."""
        return corrections().count(self.answer["model"])

    @property
    def _model(self) -> Model | None:
        return loaded_models().get(self.answer["model"])

    def snippets(self) -> dict[str, str]:
        """Return programs that get the same response, by language."""
        address = url_for("predict.predict", model=self.answer["model"], _external=True)
        return code_samples(address, self.name or "image.jpg", self.token_needed)


def headline(answer: Mapping[str, Any]) -> str:
    """Return a response in a few words: its class, a summary of several faces, or the missing face."""
    faces = answer["faces"]
    if faces is not None and not faces:
        return "No face found"
    if faces and len(faces) > 1:
        return faces_summary(faces)
    return display_name(answer["predictions"][0]["class"])


def row_document(view: ResultView) -> dict[str, Any]:
    """Return a result as the page's script shows it in a table."""
    return {"id": view.id, "mine": view.mine, "answers": [_row(answer) for answer in view.answers]}


def _row(answer: Mapping[str, Any]) -> dict[str, Any]:
    faces, first = answer["faces"], answer["predictions"][0]
    many = faces is not None and len(faces) != 1
    judged = [face["predictions"] for face in faces] if faces else [answer["predictions"]]
    return {
        "model": answer["model"],
        "class": first["class"],
        "name": headline(answer),
        "probability": None if many else first["probability"],
        "unsure": faces != [] and any(is_unsure(predictions) for predictions in judged),
        "milliseconds": answer["timing_ms"]["total"],
        "answer": answer,
    }


def loaded_models() -> dict[str, Model]:
    """Return the loaded models of Dimple's own engines by name."""
    entries = services().registry.entries()
    return {entry.name: entry.model for entry in entries if isinstance(entry.model, Model)}


def corrections() -> FeedbackStore:
    """Return the store of corrected images, which may be as large as the uploads."""
    settings = services().settings
    return FeedbackStore(settings.instance_dir / "corrections", settings.uploads_max_bytes)


def from_upload(model: Model, picture: Picture, prepared: PreparedInput) -> dict[str, Any]:
    """Return the view data of an image that is not stored, computed while it is open."""
    rows = range(len(prepared.tensor))
    seen = tuple(_data("png", png(tensor_image(prepared.tensor[row : row + 1], model.preprocess))) for row in rows)
    preview = _data("jpeg", jpeg(picture.image, PREVIEW_SIDE))
    return {"preview": preview, "seen": seen, **dict(zip(("width", "height"), picture.size, strict=True))}


def from_store(upload: StoredUpload, others: Sequence[Mapping[str, Any]] = ()) -> ResultView:
    """Return the view of a stored image.

    :param others: documents of other models' responses to it.
    """
    record = upload.record
    faces = range(1, len(record["answer"]["faces"] or [None]) + 1)
    return ResultView(
        answer=record["answer"],
        name=record["name"],
        width=record["width"],
        height=record["height"],
        preview=url_for("results.picture", identity=upload.id),
        seen=tuple(url_for("results.seen", identity=upload.id, face=face) for face in faces),
        id=upload.id,
        mine=is_mine(upload),
        corrected=record.get("corrected", {}),
        others=tuple(others),
    )


def is_mine(upload: StoredUpload) -> bool:
    """Return whether the client of the current request has uploaded the image."""
    return bool(visitor()) and upload.tag == tag_of(visitor())


def requested_part() -> str:
    """Return the part of the page that its script requests: ``result`` (HTML), ``row`` (JSON), or empty for all."""
    part = request.headers.get("X-Part", "")
    return part if part in ("result", "row") else ""


def _data(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def code_samples(address: str, name: str, token: bool) -> dict[str, str]:
    """Return programs that send an image file and print the response, by language.

    :param address: URL of the model's predictions.
    :param name: name of the file.
    :param token: whether predictions require a token; the programs read it from the variable ``DIMPLE_TOKEN``.
    """
    return {
        "curl": _curl(address, name, token),
        "Python": _python(address, name, token),
        "JavaScript": _javascript(address, name, token),
    }


def _curl(address: str, name: str, token: bool) -> str:
    header = '-H "Authorization: Bearer $DIMPLE_TOKEN" ' if token else ""
    return f"curl {header}-F {shlex.quote('file=@' + _for_curl(name))} {shlex.quote(address)}"


def _for_curl(name: str) -> str:
    """Return a file's name for ``-F``, quoted because ``;`` and ``,`` have a meaning there."""
    if not set(name) & set(';,"'):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _python(address: str, name: str, token: bool) -> str:
    system, header = ("import os\n\n", f",\n{' ' * 8}{_PYTHON_TOKEN}") if token else ("", "")
    return f"""{system}import requests

with open({_text(name)}, "rb") as image:
    response = requests.post(
        {_text(address)},
        files={{"file": image}}{header},
    )
response.raise_for_status()
for item in response.json()["predictions"]:
    print(item["class"], item["probability"])
"""


_PYTHON_TOKEN = 'headers={"Authorization": f"Bearer {os.environ[\'DIMPLE_TOKEN\']}"}'


def _javascript(address: str, name: str, token: bool) -> str:
    header = "  headers: { Authorization: `Bearer ${process.env.DIMPLE_TOKEN}` },\n" if token else ""
    return f"""import {{ openAsBlob }} from "node:fs";

const form = new FormData();
form.set("file", await openAsBlob({_text(name)}), "image");
const response = await fetch({_text(address)}, {{
  method: "POST",
{header}  body: form,
}});
if (!response.ok) throw new Error(await response.text());
for (const item of (await response.json()).predictions) {{
  console.log(item.class, item.probability);
}}
"""


def _text(value: str) -> str:
    """Return a string literal that Python and JavaScript read alike."""
    return json.dumps(value)
