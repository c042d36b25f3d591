"""``model-card.md`` of a rescued model: its facts and its proof in words, with four pictures and their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from app.engines.parity import PHOTOGRAPH
from app.engines.proof import PROOF, Comparison, Proof
from app.formats.inference import confidence_of
from app.formats.pixels import describe_pixels
from app.serving.model import Model
from app.serving.pipeline import Picture, answer

CARD, PICTURE = "model-card.md", "model-card.png"
PARTS = ((0.0, 0.0, 1.0, 1.0), (0.25, 0.0, 0.65, 0.4), (0.4, 0.4, 1.0, 1.0), (0.0, 0.0, 0.45, 0.6))
"""Parts of the photograph, by left, top, right and bottom edge: all of it, the face, the suit, the flag."""
EXAMPLES, TOP = len(PARTS), 3
"""Number of pictures, and of classes for each."""
SIDE, LINE, MARGIN = 300, 20, 10
"""Pixels of a picture's side, of a line of text and of a margin."""


@dataclass(frozen=True)
class Example:
    """An upright RGB picture and its name."""

    name: str
    image: Image.Image


def write_card(
    path: Path,
    model: Model,
    proof: Proof,
    reasons: Mapping[str, str],
    examples: Sequence[Example] = (),
    trials: Sequence[str] = (),
) -> None:
    """Write the card of a model and its picture into the model folder.

    :param reasons: the reasons for the parts of the signature.
    :param examples: the pictures; empty takes parts of a photograph.
    :param trials: lines of text about the preprocessings that were tried.
    """
    _draw(model, [*examples][:EXAMPLES] or _parts()).save(path / PICTURE)
    lines = [_text(model, proof, reasons), *(["", "## Pixels", "", "```", *trials, "```"] if trials else [])]
    (path / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _parts() -> list[Example]:
    with Image.open(PHOTOGRAPH) as opened:
        photograph = opened.convert("RGB")
    across, down = photograph.size
    boxes = [(left * across, top * down, right * across, bottom * down) for left, top, right, bottom in PARTS]
    return [Example(PHOTOGRAPH.name, photograph.crop(tuple(map(round, box)))) for box in boxes]  # type: ignore[arg-type]


def _draw(model: Model, examples: Sequence[Example]) -> Image.Image:
    """Return one picture of the examples, two in a row, each over its most probable classes."""
    width, height = SIDE + 2 * MARGIN, SIDE + (TOP + 1) * LINE + 3 * MARGIN
    sheet = Image.new("RGB", (2 * width, (len(examples) + 1) // 2 * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, example in enumerate(examples):
        left, top = number % 2 * width + MARGIN, number // 2 * height + MARGIN
        small = ImageOps.contain(example.image, (SIDE, SIDE))
        sheet.paste(small, (left + (SIDE - small.width) // 2, top + (SIDE - small.height) // 2))
        for row, text in enumerate(_caption(model, example)):
            draw.text((left, top + SIDE + MARGIN + row * LINE), _shortened(text), "black", font)
    return sheet


def _caption(model: Model, example: Example) -> Iterator[str]:
    found = answer(model, Picture(example.image, 0.0, example.image.size), TOP)
    yield example.name
    for prediction in found.predictions:
        yield f"{prediction.probability:6.1%}  {prediction.label}"


def _shortened(text: str, longest: int = 42) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _text(model: Model, proof: Proof, reasons: Mapping[str, str]) -> str:
    labels = ", ".join(map(_plain, model.labels[:5]))
    labels += f" … ({len(model.labels):,} in all)" if len(model.labels) > 5 else ""
    shape = " x ".join(str(size) if size else "any" for size in model.input.shape)
    values = {
        "input": f"{model.input.name}, {shape}, {model.preprocess.layout}",
        "pixels": describe_pixels(model.preprocess),
        "output": f"{model.output.name}, activation {model.postprocess.activation}",
        "labels": f"{len(model.labels):,}, in synset.txt",
    }
    known = {part: f"{confidence_of(reason)}: {reason}" for part in values if (reason := reasons.get(part))}
    parts = "\n".join(f"| {part} | {_plain(value)} | {_plain(known.get(part, ''))} |" for part, value in values.items())
    digests = {**proof.source, **proof.result}
    files = "\n".join(f"| {_plain(name)} | `{digest}` |" for name, digest in digests.items())
    return f"""\
# {model.name}

An image classifier of {len(model.labels):,} classes: {labels}.

![Four pictures with the model's answers]({PICTURE})

## Input and output

| part | value | how it is known |
| --- | --- | --- |
{parts}

## Files

| file | SHA-256 |
| --- | --- |
{files}

## Proof

Made {proof.date}. `dimple prove {model.name}` checks it again; `{PROOF}` has all of it.

- OpenVINO's format: {_sentence(proof.converted) or f"not proven, because {proof.unproven}"}.
- ONNX: {_sentence(proof.onnx) or _plain(proof.no_onnx)}."""


def _sentence(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return (
        f"by {comparison.engine}, its probabilities differ by {comparison.max_abs_difference:.1e} at most from those "
        f"of {comparison.reference} for {comparison.inputs} inputs, and {comparison.same_class} of them get the same "
        "class"
    )


def _plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is, also in a table."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
