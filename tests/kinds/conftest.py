from __future__ import annotations

from pathlib import Path

from app.engines.cache import key_of
from app.engines.conversion import build, reference_kind
from app.formats.folder import open_model_folder
from app.serving.model import Model, open_model
from app.utils.files import replacing_folder
from tests.kinds.table import table

__all__ = ["converted", "table"]


def converted(folder: Path, cache: Path) -> Model:
    """Open a model folder as the server does, but convert it in this process: one for each kind would take minutes.

    :param cache: the cache of converted networks, which gets the conversion.
    :raises ModelFormatError: if the folder is refused.
    """
    model = open_model_folder(folder)
    with replacing_folder(cache / key_of(model, reference_kind(model, "auto"))) as entry:
        build(model, "auto", entry)
    return open_model(model, "auto", cache_dir=cache)
