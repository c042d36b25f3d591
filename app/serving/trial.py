"""A trained model that is tried before it is served."""

from __future__ import annotations

import threading
from pathlib import Path

from app.formats.folder import open_model_folder
from app.serving.model import Model, open_model
from app.serving.pipeline import classify
from app.settings import Settings
from app.types import Answer


class Trials:
    """The model that was tried last, which stays open in this process until another one is tried."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._key: tuple[Path, int] | None = None
        self._model: Model | None = None

    def classify(self, folder: Path, data: bytes) -> Answer:
        """Classify a picture with the model of a folder.

        :raises BadInput: if it is not a picture.
        :raises ModelFormatError: if the model cannot be loaded.
        """
        with self._lock:
            key = (folder, folder.stat().st_ino)
            if self._model is None or self._key != key:
                if self._model is not None:
                    self._model.engine.close()
                    self._model = None
                settings = self._settings
                self._model = open_model(open_model_folder(folder), settings.engine, cache_dir=settings.cache)
                self._key = key
            return classify(self._model, data, self._settings.picture_limits, top=0)
