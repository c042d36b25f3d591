"""Download of catalogue models, their conversion to model folders, and their atomic installation."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.errors import DataError, DownloadError, ModelFormatError
from app.formats.archive.manifest import NAME, read_manifest
from app.formats.archive.unpack import unpack
from app.formats.folder import write_manifest
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.labels import imagenet_labels, read_labels, write_labels
from app.formats.signature import FILE_NAME, write_signature
from app.settings import Settings
from app.types import Postprocess, Signature, TensorSpec
from app.utils.download import Patience
from app.utils.files import file_lock, swap_folder
from app.utils.json import read_object
from app.utils.progress import echo
from app.zoo.catalogue import Accuracy, Base, CatalogueEntry, load_catalogue, resolve
from app.zoo.download import PATIENCE, Sources, bases, clear, configured_sources, fetch, public, remove, verify

FACTS = "catalogue.json"
README = "README.md"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def build_folder(entry: CatalogueEntry, files: list[Path], folder: Path, name: str, place: str) -> None:
    """Make a new model folder.

    :param files: the files, as :func:`app.zoo.download.fetch` returns them.
    :param folder: the new folder, which must not exist.
    :param place: the source of the files, for the record.
    :raises DataError: if the weights differ from the published ones.
    :raises ModelFormatError: if the weights cannot be read or belong to another network.
    """
    kinds = {"archive": _from_archive, "checkpoint": _from_checkpoint, "gluon": _from_gluon}
    kinds[entry.kind](entry, files, folder, name)
    _write_facts(entry, folder, place)


def pulled_from(folder: Path) -> str:
    """Return the catalogue name of a model folder; empty if the model is not from the catalogue."""
    return str(read_object(folder / FACTS).get("name", ""))


def _from_archive(entry: CatalogueEntry, files: list[Path], folder: Path, name: str) -> None:
    verify(entry, files[-1])
    unpack(files[-1], folder)
    read_manifest(folder)


def _from_checkpoint(entry: CatalogueEntry, files: list[Path], folder: Path, name: str) -> None:
    symbol, params = files[-2:]
    verify(entry, params)
    signature = infer_signature(ModelFiles(symbol, params)).signature
    folder.mkdir()
    write_manifest(folder, name)
    shutil.copyfile(symbol, folder / f"{entry.name}-symbol.json")
    shutil.copyfile(params, folder / f"{entry.name}-0000.params")
    if not entry.shape:
        _finish(entry, files, folder, signature)
        return
    shape = (0, *entry.shape)
    channels = signature.inputs[0].shape[1]
    if channels != shape[1]:
        raise ModelFormatError(f"{symbol.name} takes {channels} channels, the catalogue says {shape[1]}")
    inputs = (TensorSpec(signature.inputs[0].name, shape),)
    _finish(entry, files, folder, replace(signature, inputs=inputs, preprocess=entry.preprocess))


def _from_gluon(entry: CatalogueEntry, files: list[Path], folder: Path, name: str) -> None:
    from app.zoo.gluon import INPUT, OUTPUT, export

    params = _unzip_params(files[-1], folder.with_name(f"{folder.name}.unzipped"))
    verify(entry, params)
    folder.mkdir()
    write_manifest(folder, name)
    export(params, entry.network, entry.classes, entry.shape, folder / entry.name)
    inputs, outputs = (TensorSpec(INPUT, (0, *entry.shape)),), (TensorSpec(OUTPUT, (0, entry.classes)),)
    _finish(entry, files, folder, Signature(inputs, outputs, entry.preprocess, Postprocess("none")))


def _unzip_params(path: Path, folder: Path) -> Path:
    """Return the parameter file in one of Gluon's zips, or ``path`` itself if it is not a zip."""
    if path.suffix == ".params":
        return path
    paths = sorted(unpack(path, folder).rglob("*.params"))
    if len(paths) != 1:
        raise DataError(f"{path.name} holds {len(paths)} files *.params, one is expected")
    return paths[0]


def _finish(entry: CatalogueEntry, files: list[Path], folder: Path, signature: Signature) -> None:
    write_signature(signature, folder / FILE_NAME)
    labels = _labels(entry, files)
    if labels and len(labels) != signature.outputs[0].shape[1]:
        raise ModelFormatError(
            f"{entry.name} tells {signature.outputs[0].shape[1]} classes apart, but has {len(labels)} labels"
        )
    if labels:
        write_labels(folder, labels)


def _labels(entry: CatalogueEntry, files: list[Path]) -> tuple[str, ...]:
    if entry.labels == "imagenet":
        return imagenet_labels()
    if entry.labels == "cifar10":
        return CIFAR10
    if entry.labels in ("none", "archive"):
        return ()
    return read_labels(files[0])


def _write_facts(entry: CatalogueEntry, folder: Path, place: str) -> None:
    facts = facts_of(entry) | {"from": place}
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if not (folder / README).exists():  # an archive may contain a README
        (folder / README).write_text(_readme(entry, place), encoding="utf-8")


def facts_of(entry: CatalogueEntry) -> dict[str, Any]:
    """Return a catalogue entry as a JSON object."""
    paper = entry.paper
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "kind": entry.kind,
        "files": list(entry.files),
        "checksum": entry.checksum,
        "licence": entry.licence,
        "input": list(entry.shape),
        "labels": entry.labels,
        "parameters": entry.parameters,
        "megabytes": entry.megabytes,
        "top1": entry.accuracy.top1,
        "top5": entry.accuracy.top5,
        "paper": paper.title if paper else "",
        "paper_url": paper.url if paper else "",
        "paper_top1": paper.accuracy.top1 if paper else None,
        "paper_top5": paper.accuracy.top5 if paper else None,
        "note": entry.note,
    }


def _readme(entry: CatalogueEntry, place: str) -> str:
    paper = entry.paper
    rows = [
        ("From", place),
        ("Files", ", ".join(entry.files)),
        ("Checksum of the weights", entry.checksum or "none was published"),
        ("Licence", entry.licence),
        ("Parameters", f"{entry.parameters:,}" if entry.parameters else ""),
        ("Accuracy of these weights", _percent(entry.accuracy)),
        ("Paper", f"{paper.title}, {paper.url}" if paper else ""),
        ("Accuracy in the paper", _percent(paper.accuracy) if paper else ""),
        ("Note", entry.note),
    ]
    lines = [f"| {what} | {value} |" for what, value in rows if value]
    return f"# {entry.name}\n\n| | |\n|---|---|\n" + "\n".join(lines) + "\n"


def _percent(accuracy: Accuracy) -> str:
    texts = [f"top-{n} {value} %" for n, value in ((1, accuracy.top1), (5, accuracy.top5)) if value is not None]
    return ", ".join(texts)


def pull(
    entry: CatalogueEntry, sources: Sources, name: str = "", force: bool = False, patience: Patience = PATIENCE
) -> Path:
    """Fetch a model and install it in the models folder.

    Do nothing if it is installed already. The sources are tried in turn until one has files that match the catalogue.
    Downloads and intermediate files are in ``sources.work_dir``; the model folder appears only when it is complete.
    Concurrent processes are safe: one works and the others wait for it.

    :param name: the name of the installed model; by default its catalogue name.
    :param force: replace an existing model of that name.
    :raises ModelFormatError: if the name is not a valid model name, another model has it, no definition of the network
        is installed, or the folder cannot be written.
    :raises DownloadError: if no source has the model; the message states what was wrong with each.
    """
    name = name or entry.name
    if not NAME.fullmatch(name):
        raise ModelFormatError(f"{name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    target = sources.models_dir / name
    try:
        for folder in (sources.models_dir, sources.work_dir):
            folder.mkdir(parents=True, exist_ok=True)
        with file_lock(sources.work_dir / f"{name}.target.lock"):
            if force or not _is_pulled(entry, target):
                _check_network(entry)
                with file_lock(sources.work_dir / f"{entry.name}.files.lock"):
                    _pull(entry, sources, target, patience)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Make room, or let Dimple write there") from None
    return target


def by_name(settings: Settings, environ: Mapping[str, str] = os.environ) -> Callable[[str], Path | None]:
    """Return a function that fetches a model by its catalogue name, for callers that must not import the catalogue.

    The function returns the model folder, or None if the catalogue has no such name. It raises the errors of
    :func:`pull`.
    """

    def fetched(name: str) -> Path | None:
        entry = resolve(name, settings.instance_dir)
        return pull(entry, configured_sources(settings, environ)) if entry is not None else None

    return fetched


def listed(settings: Settings) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that lists the catalogue as JSON types, for callers that must not import the catalogue.

    Each model has its ``name``, ``megabytes``, ``top1`` (in per cent, or null), ``classes`` and ``licence``. The
    function raises :class:`SettingError` if the user's own catalogue is invalid.
    """

    def models() -> list[dict[str, Any]]:
        return [
            {
                "name": entry.name,
                "megabytes": entry.megabytes,
                "top1": entry.accuracy.top1,
                "classes": entry.classes,
                "licence": entry.licence,
            }
            for entry in load_catalogue(settings.instance_dir).entries.values()
        ]

    return models


def _is_pulled(entry: CatalogueEntry, target: Path) -> bool:
    if not target.exists() and not target.is_symlink():
        return False
    if pulled_from(target) != entry.name:
        raise ModelFormatError(
            f"{target} is there already, and is not {entry.name} of the catalogue. "
            "Choose another name (--name), or replace it (--force)"
        )
    return True


def _check_network(entry: CatalogueEntry) -> None:
    """Check that the network can be built before downloading hundreds of megabytes for it."""
    if entry.kind == "gluon":
        from app.zoo.gluon import build

        build(entry.network, entry.classes)


def _pull(entry: CatalogueEntry, sources: Sources, target: Path, patience: Patience) -> None:
    work = sources.work_dir / entry.name
    made = work / "made"
    failures = []
    try:
        for base in bases(entry, sources):
            _clear(work)  # leftovers of another source or of a killed process
            try:
                _make(entry, base, work, target.name, patience)
            except (DataError, ModelFormatError) as error:
                echo(f"{entry.name}: not from {public(base)}: {error}")
                failures.append(f"{public(base)}: {error}")
                continue
            _put(made, target)
            remove(work)
            return
    finally:
        _clear(work)
    raise DownloadError(
        f"{entry.name} cannot be fetched. {'; '.join(failures)}. Try again later, or let DIMPLE_MIRROR name a URL or "
        f"a folder that has {' and '.join(entry.files)}"
    )


def _make(entry: CatalogueEntry, base: Base, work: Path, name: str, patience: Patience) -> None:
    files = fetch(entry, base, work, patience)
    work.mkdir(exist_ok=True)
    build_folder(entry, files, work / "made", name, public(base))


def _clear(work: Path) -> None:
    for folder in work.glob("made*"):
        remove(folder)
    clear(work)


def _put(made: Path, target: Path) -> None:
    """Move the folder into the models folder, by way of a hidden copy if that is on another file system."""
    try:
        swap_folder(made, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.partial")
        remove(beside)
        try:
            shutil.copytree(made, beside)
            swap_folder(beside, target)
        finally:
            remove(beside)
