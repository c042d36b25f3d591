"""Rescue of a model: its network converted beside its source, with a proof and a card, and the check of that proof."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from app.engines.cache import ANSWERS, MODEL, WEIGHTS, Entry, sources
from app.engines.conversion import reference_kind, refusal
from app.engines.conversion_process import ConversionError, cached_entry
from app.engines.converted import make_proof, reference_program
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import TENSORFLOW_LITE, predict_each
from app.engines.proof import (
    ONNX,
    Comparison,
    Measurement,
    Proof,
    changed_files,
    hashes,
    read_answers,
    read_proof,
    write_proof,
)
from app.engines.proof_process import Answers, compare, measure, openvino_program, proof_inputs
from app.errors import DimpleError, ModelFormatError
from app.formats.archive.manifest import CURRENT, LEGACY
from app.formats.classes import classes_of
from app.formats.folder import CONVERTED, ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.inference import BY_LABELS, MEASURED, confidence_of
from app.formats.labels import SYNSET, write_labels
from app.formats.pictures import PictureSource
from app.formats.signature import FILE_NAME, write_signature
from app.serving.export import write_onnx
from app.serving.model import Model, open_model
from app.serving.model_card import EXAMPLES, Example, write_card
from app.serving.model_import import ImportPlan, hidden_folder, run_import
from app.serving.pipeline import open_picture
from app.serving.pixel_search import MOST, PixelSearch, TrialPicture, lines_of, search, summary
from app.serving.tensorflow_reference import TensorflowReference, program_of
from app.settings import Settings
from app.types import Signature
from app.utils.error_text import listed

CHOICE = "auto"
ARCHIVES = (".mar", ".model", ".tar.gz", ".tgz", ".zip")
LISTED = 5
"""The number of names in a note."""
LABELS_OF_FOLDER = f"{BY_LABELS}the folder"


@dataclass(frozen=True)
class Rescue:
    """A rescued model, its proof, and the reasons for ``input``, ``pixels``, ``output`` and ``labels``.

    ``found`` is the search for its preprocessing; None without pictures. ``notes`` say which of the pictures do not
    count, or count as unlabelled, and why TensorFlow or Keras did not prove it.
    """

    model: Model
    proof: Proof
    reasons: dict[str, str]
    found: PixelSearch | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The result of checking a proof again.

    ``changed`` are files whose content is not what was proven, by their names in the model folder. ``reference`` is the
    comparison with the reference, None if it cannot be used here, for the reason in ``no_reference``; ``stored`` is the
    comparison with the stored answers, None if there are none. ``note`` says why TensorFlow or Keras are not the
    reference of a file of theirs, although they are installed.
    """

    proof: Proof
    changed: tuple[str, ...]
    reference: Comparison | None
    no_reference: str
    stored: Comparison | None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Return whether all files are unchanged and every comparison that was possible is within its limit."""
        made = [item for item in (self.reference, self.stored) if item is not None]
        return not self.changed and bool(made) and all(item.holds for item in made)


def is_whole(path: Path) -> bool:
    """Return whether a path is a whole model, a model folder or an archive, rather than one of its files."""
    if path.is_dir():
        return any((path / name).is_file() for name in (CURRENT, LEGACY, FILE_NAME))
    return path.name.lower().endswith(ARCHIVES)


def rescue_files(plan: ImportPlan, target: Path, settings: Settings, pictures: PictureSource | None = None) -> Rescue:
    """Import a model's files, convert them and prove the result. The folder appears when all is done.

    :param target: the folder to make; it replaces an existing one.
    :param pictures: pictures with which the preprocessing is found; None infers it from the files alone.
    :raises ModelFormatError: if the model cannot be loaded or converted, or the folder cannot be written.
    """
    made_of: list[Rescue] = []

    def finish(made: Path, model: Model) -> None:
        made_of.append(_complete(made, plan.reasons(model), settings, pictures))

    run_import(plan, target, settings, finish)
    return made_of[0]


def rescue_folder(source: Path, target: Path, settings: Settings, pictures: PictureSource | None = None) -> Rescue:
    """Copy a model folder or an unpacked archive, convert the copy and prove it; all its files are kept.

    :param target: the folder to make, which may be ``source`` itself; it replaces an existing one.
    :param pictures: as in :func:`rescue_files`.
    :raises ModelFormatError: as :func:`rescue_files`.
    """
    with hidden_folder(target.absolute()) as made:
        try:
            shutil.copytree(source, made)
            reasons = {**infer_folder(open_model_folder(made)).reasons, "labels": LABELS_OF_FOLDER}
            return _complete(made, reasons, settings, pictures)
        except ModelFormatError as error:
            raise ModelFormatError(str(error).replace(str(made), str(source))) from None


def _complete(path: Path, reasons: Mapping[str, str], settings: Settings, pictures: PictureSource | None) -> Rescue:
    """Complete a model folder: ``signature.json`` with the reasons for what was inferred, ``converted/``, and the card.

    The folder must be one that nobody uses yet: a failure leaves it half made.
    """
    reasons, found, examples, folder = dict(reasons), None, [], open_model_folder(path)
    notes: tuple[str, ...] = ()
    model = open_model(folder, settings.engine, cache_dir=settings.cache)
    try:
        entry = _converted(folder, settings)
        signature = Signature((model.input,), (model.output,), model.preprocess, model.postprocess)
        if pictures is not None:
            chosen, notes = _choose(pictures, model.labels)
            found = search(model.engine, signature, chosen, settings.picture_limits)
            if found.chosen.preprocess != model.preprocess:  # its warnings are about other pixels
                model = replace(model, preprocess=found.chosen.preprocess, warnings=())
            signature = replace(signature, preprocess=found.chosen.preprocess)
            reasons["pixels"] = f"{MEASURED}: {summary(found)}"
            examples = _examples(chosen, settings)
        inferred = {part: {"from": why, "confidence": confidence_of(why)} for part, why in reasons.items()}
        write_signature(signature, path / FILE_NAME, inferred=inferred)
        if not (path / SYNSET).is_file():
            write_labels(path, model.labels)
        proof, note = _prove(open_model_folder(path), signature, model.labels, entry, settings)
        notes += (note,) if note else ()
        write_card(path, model, proof, reasons, examples, list(lines_of(found)) if found is not None else [])
    finally:
        model.engine.close()
    return Rescue(model, proof, reasons, found, notes)


def _choose(source: PictureSource, labels: Sequence[str]) -> tuple[list[TrialPicture], tuple[str, ...]]:
    """Return at most :data:`MOST` pictures, evenly from the classes, and notes about folders that name no class.

    The pictures have no class if none of their folders names one.
    """
    truth = classes_of(source.pictures, labels)
    by_class: dict[int | None, list[str]] = {}
    for name in truth or source.pictures:
        by_class.setdefault(truth.get(name), []).append(name)
    draw = random.Random(0)
    for names in by_class.values():
        draw.shuffle(names)
    rounds = itertools.zip_longest(*by_class.values())
    chosen = itertools.islice((name for turn in rounds for name in turn if name is not None), MOST)
    trials = [TrialPicture(name, partial(source.read, name), truth.get(name)) for name in chosen]
    return trials, _notes(source.pictures, truth, labels)


def _notes(pictures: Sequence[str], truth: Mapping[str, int], labels: Sequence[str]) -> tuple[str, ...]:
    """Return a note about folders that hold pictures and name no class; none if no folder holds any."""
    unnamed = sorted({PurePosixPath(name).parent.name for name in pictures if name not in truth} - {""})
    if not unnamed or (not truth and len(unnamed) == 1):
        return ()
    outcome = "their pictures are left out" if truth else "so the pictures count as unlabelled"
    return (f"no label is named {listed(unnamed, LISTED)}: {outcome}. The labels are {listed(labels, LISTED)}",)


def _examples(pictures: Sequence[TrialPicture], settings: Settings) -> list[Example]:
    """Return the first pictures that can be read, for the card."""
    examples: list[Example] = []
    for picture in pictures:
        with contextlib.suppress(DimpleError), open_picture(picture.read(), settings.picture_limits) as opened:
            examples.append(Example(Path(picture.name).name, opened.image))
        if len(examples) == EXAMPLES:
            break
    return examples


def _prove(
    folder: ModelFolder, signature: Signature, labels: tuple[str, ...], entry: Entry, settings: Settings
) -> tuple[Proof, str]:
    """Write the folder ``converted``, and return its proof and a note, which may be empty."""
    made = folder.path / CONVERTED
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    for name in (MODEL, WEIGHTS):
        shutil.copyfile(entry.path / name, made / name)
    no_onnx = _write_onnx(folder, labels, made)
    measured, note = _measure(folder, signature, settings, _known_answers(folder, signature, entry))
    if measured.converted is not None and not measured.converted.holds:
        raise ModelFormatError(f"{folder.path} cannot be converted: {_refusal(measured.converted)}")
    onnx = measured.onnx
    if onnx is not None and not onnx.holds:
        (made / ONNX).unlink()
        no_onnx, onnx = _refusal(onnx), None
    np.save(made / ANSWERS, measured.answers)
    source = hashes(folder.path, sources(folder, reference_kind(folder, CHOICE)))
    measured = replace(measured, onnx=onnx, no_onnx=no_onnx)
    proof = make_proof(folder.path, source, signature, measured, entry.record.milliseconds)
    write_proof(proof, folder.path)
    return proof, note


def _refusal(comparison: Comparison) -> str:
    return refusal(comparison.max_abs_difference, comparison.reference.name, comparison.limit)


def _known_answers(folder: ModelFolder, signature: Signature, entry: Entry) -> Answers | None:
    """Return the reference's answers from the conversion; None if it had none, or the inputs were others."""
    parity, inference = entry.record.parity, entry.inference
    if parity is None or inference is None or not (entry.path / ANSWERS).is_file():
        return None
    then = inference.signature
    if (then.preprocess, then.inputs[0].shape) != (signature.preprocess, signature.inputs[0].shape):
        return None
    return np.load(entry.path / ANSWERS, allow_pickle=False), reference_program(folder, parity)


def _measure(
    folder: ModelFolder, signature: Signature, settings: Settings, known: Answers | None = None
) -> tuple[Measurement, str]:
    """Measure a proof, with TensorFlow or Keras as the reference if they are installed and the source is theirs.

    :param known: the answers of the other reference, if they are known.
    :returns: the measurement, and why they are not the reference; empty if there is no reason to name.
    """
    tensorflow, rows = TensorflowReference(settings), proof_inputs(signature)
    kind = program_of(folder) if tensorflow.is_installed else ""
    if not kind:
        return measure(folder, CHOICE, signature, rows, known), ""
    try:
        answers = tensorflow.compute(kind, folder, signature, rows)
    except ModelFormatError as error:
        return measure(folder, CHOICE, signature, rows, known), str(error)
    measured = measure(folder, CHOICE, signature, rows, answers)
    compared = measured.converted
    if compared is not None and not compared.holds and compared.reference.name == TENSORFLOW_LITE:
        worst = compared.max_abs_difference
        differs = f"{compared.reference} computes it in 8 bits; a probability differs by {worst:.1e} at most"
        return replace(measure(folder, CHOICE, signature, rows, known), unproven=differs), ""
    return measured, ""


def _converted(folder: ModelFolder, settings: Settings) -> Entry:
    """Return the network in OpenVINO's format, from the cache: what the folder has converted already is made anew."""
    if not folder.has_original:
        raise ModelFormatError(f"{folder.path} holds only its converted network; give the file that it was made from")
    try:
        entry = cached_entry(folder, CHOICE, settings.cache)
    except ConversionError as error:
        raise ModelFormatError(f"{folder.path} cannot be converted: {error}") from None
    if entry.record.reason:
        raise ModelFormatError(f"{folder.path} cannot be converted: {entry.record.reason}")
    return entry


def _write_onnx(folder: ModelFolder, labels: tuple[str, ...], made: Path) -> str:
    """Write ``model.onnx``, or return the reason why there is none."""
    if not reference_kind(folder, CHOICE):
        return "the source is ONNX" if folder.onnx is not None else "nothing leads from the source to ONNX"
    try:
        write_onnx(folder, labels, made / ONNX, compare=False)
    except ModelFormatError as error:
        (made / ONNX).unlink(missing_ok=True)
        return str(error)
    return ""


def check_proof(folder: ModelFolder, settings: Settings) -> Verdict:
    """Check the proof of a rescued model again, on this machine.

    :raises ModelFormatError: if it has no proof, or its network cannot be computed.
    """
    made = folder.path / CONVERTED
    proof = read_proof(folder.path)
    changed = changed_files(folder.path, {**proof.source, **proof.result})
    if any((folder.path / name).parent == made for name in changed if name.endswith((MODEL, WEIGHTS))):
        return Verdict(proof, tuple(changed), None, "the converted network is not what was proven", None)
    measured, note = _measure(folder, proof.signature, settings)
    stored, answers = None, read_answers(folder.path)
    if answers is not None:
        engine = OpenvinoEngine.load(made / MODEL, proof.milliseconds)
        activation = proof.signature.postprocess.activation
        author = proof.converted.reference if proof.converted is not None else proof.engine
        programs = (author, openvino_program())
        actual = predict_each(engine, proof_inputs(proof.signature, proof.samples)[: len(answers)])
        stored = compare(programs, actual, answers, activation)
        engine.close()
    return Verdict(proof, tuple(changed), measured.converted, measured.unproven, stored, note)
