"""Many pictures, classified on all cores by the code that serves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.errors import DimpleError, EmptyFile, ModelNotFound
from app.formats.archive.manifest import NAME
from app.formats.folder import ModelFolder, is_model_folder, open_model_folder
from app.machine import cores
from app.picture_limits import PictureLimits
from app.serving.model import Model, open_model
from app.serving.pipeline import answer, open_picture
from app.settings import Settings
from app.types import Answer

THREADS = cores()
AHEAD = 4 * THREADS
"""Pictures that are begun before the first of them is asked for: their answers wait in memory."""


@dataclass(frozen=True)
class Item:
    """A picture to be classified: its name, and what reads its bytes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Failure:
    """A picture or a path that gave no answer, and why."""

    name: str
    reason: str


def found(settings: Settings, name: str) -> ModelFolder:
    """Find one model of the models folder.

    :raises ModelNotFound: where there is none of that name.
    :raises ModelFormatError: where its files contradict each other.
    """
    from app.zoo import imagenet

    if name == imagenet.NAME:
        imagenet.ensure_imagenet(settings.models_dir)
    path = settings.models_dir / name
    if not NAME.fullmatch(name) or not is_model_folder(path):
        there = settings.models_dir.iterdir() if settings.models_dir.is_dir() else ()
        raise ModelNotFound(name, sorted({imagenet.NAME, *(path.name for path in there if is_model_folder(path))}))
    return open_model_folder(path)


@contextmanager
def opened(settings: Settings, name: str) -> Iterator[Model]:
    """Load one model of the models folder, and no other.

    :raises ModelNotFound: as :func:`found`.
    :raises ModelFormatError: where it cannot be loaded.
    """
    model = open_model(found(settings, name), settings.engine, cache_dir=settings.cache)
    try:
        yield model
    finally:
        model.engine.close()


def answers(
    model: Model, items: Iterable[Item], limits: PictureLimits, top: int | None
) -> Iterator[tuple[Item, Answer | Failure]]:
    """Classify pictures on all cores, and give the answers in the pictures' order.

    :param top: as :func:`app.serving.pipeline.answer` takes it.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        begun: deque[tuple[Item, Any]] = deque()
        try:
            for item in items:
                begun.append((item, pool.submit(_answer, model, item, limits, top)))
                if len(begun) > AHEAD:
                    done, future = begun.popleft()
                    yield done, future.result()
            while begun:
                done, future = begun.popleft()
                yield done, future.result()
        finally:
            for _, future in begun:  # interrupted: what is not begun need not be
                future.cancel()


def _answer(model: Model, item: Item, limits: PictureLimits, top: int | None) -> Answer | Failure:
    try:
        data = item.read()
        if not data:
            raise EmptyFile(item.name)
        with open_picture(data, limits) as picture:
            return answer(model, picture, top)
    except OSError as error:
        return Failure(item.name, f"It cannot be read: {error.strerror or error}.")
    except DimpleError as error:
        return Failure(item.name, str(error))
