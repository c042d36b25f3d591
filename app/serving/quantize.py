"""Quantization of a model with pictures: the serving code itself prepares the network's inputs."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.engines import quantization
from app.engines.int8 import Record
from app.engines.quantization import can_quantize, remove
from app.errors import DataError, DimpleError, ModelFormatError, SettingError
from app.formats.folder import ModelFolder
from app.formats.pictures import PictureSource
from app.serving.model import Model
from app.serving.pipeline import open_picture, prepare
from app.settings import PictureLimits, Settings
from app.utils.files import file_lock
from app.utils.progress import echo, progress

FEWEST_SAMPLES = 30
FEWEST_HELD_OUT = 100
"""Minimum number of held-out pictures. With fewer, a single different answer is more than a hundredth."""
ENGINES = ("auto", "openvino")

__all__ = ["QuantizationRequest", "can_quantize", "check_engine", "quantize", "remove"]


@dataclass(frozen=True)
class QuantizationRequest:
    """The numbers of calibration and held-out pictures, and the required agreement on the latter, 0-1."""

    samples: int
    held_out: int
    least: float


def quantize(
    model: Model, folder: ModelFolder, source: PictureSource, request: QuantizationRequest, settings: Settings
) -> tuple[Record, float]:
    """Quantize a model with pictures of a source, one model at a time.

    :returns: as :func:`app.engines.quantization.quantize`.

    :raises DataError: if there are too few pictures, or the quantized network does not agree with the model.
    :raises ModelFormatError: if the model cannot be quantized.
    :raises SettingError: if a setting prevents serving or writing it.
    """
    check_engine(settings)
    work = settings.instance_dir / "quantizing"
    try:
        settings.instance_dir.mkdir(parents=True, exist_ok=True)
        with file_lock(settings.instance_dir / "quantizing.lock"):
            shutil.rmtree(work, ignore_errors=True)  # left by a killed process
            work.mkdir()
            try:
                inputs = _write_inputs(model, source, request, settings.picture_limits, work)
                return quantization.quantize(folder, settings.engine, settings.cache, inputs, request.least)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise ModelFormatError(f"{folder.name} cannot be quantized: {error}") from None


def check_engine(settings: Settings) -> None:
    """Raise an error if the chosen engine would not serve a quantized network.

    :raises SettingError: with the name of the engine.
    """
    if settings.engine not in ENGINES:
        raise SettingError("DIMPLE_ENGINE", settings.engine, "auto or openvino, which alone computes int8 networks")


def _write_inputs(
    model: Model, source: PictureSource, request: QuantizationRequest, limits: PictureLimits, work: Path
) -> tuple[Path, Path]:
    """Write the network's inputs for two disjoint sets of pictures, drawn from the whole source.

    :returns: two files of float32 rows. A picture with several faces gives several rows.
    :raises DataError: if there are too few distinct, readable pictures.
    """
    names = list(source.pictures)
    random.Random(0).shuffle(names)
    files = work / "calibration", work / "held-out"
    samples = held_out = 0
    total = min(request.samples + request.held_out, len(names))
    with files[0].open("wb") as first, files[1].open("wb") as second, progress("read", total, "pictures") as bar:
        for tensor in _tensors(model, source, names, limits):
            if _calibrates(samples, held_out, request):
                first.write(tensor)
                samples += 1
            else:
                second.write(tensor)
                held_out += 1
            bar.advance()
            if samples >= request.samples and held_out >= request.held_out:
                break
    if samples < FEWEST_SAMPLES or held_out < FEWEST_HELD_OUT:
        raise DataError(
            f"{source.path} has {samples + held_out:,} different pictures that can be read; quantizing takes at least "
            f"{FEWEST_SAMPLES + FEWEST_HELD_OUT}: {FEWEST_SAMPLES} to calibrate with and {FEWEST_HELD_OUT} others to "
            "compare on."
        )
    echo(f"{samples:,} pictures to calibrate with, {held_out:,} others to compare on")
    return files


def _calibrates(samples: int, held_out: int, request: QuantizationRequest) -> bool:
    """Return whether the next picture is for calibration: first the minimum of both sets, then one of three up to the
    requested number."""
    if samples < FEWEST_SAMPLES or held_out >= request.held_out:
        return True
    return held_out >= FEWEST_HELD_OUT and samples < request.samples and 2 * samples < held_out


def _tensors(model: Model, source: PictureSource, names: list[str], limits: PictureLimits) -> Iterator[bytes]:
    """Yield the inputs of each readable picture, without duplicates under other names."""
    seen: set[bytes] = set()
    for name in names:
        try:
            data = source.read(name)
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                continue
            seen.add(digest)
            with open_picture(data, limits, model.draft_side) as picture:
                tensor = prepare(model, picture).tensor
        except DimpleError as error:
            echo(f"skipped: {name}: {error}")
            continue
        yield tensor.tobytes()
