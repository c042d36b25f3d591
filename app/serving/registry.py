"""Which models there are, and those among them that answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelFormatError, ModelNotFound, ModelUnavailable
from app.formats.folder import is_model_folder, open_model_folder
from app.serving.model import Model, open_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A model by name: loaded, or the reason why not."""

    name: str
    model: Model | None
    failure: str = ""


class Registry:
    """The models of one process. Filled once, before the first request; only read after that."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def load_folder(self, models_dir: Path, engine: str) -> None:
        """Load every model folder under ``models_dir``. One that cannot be loaded is noted and spoils no other."""
        for path in sorted(filter(is_model_folder, models_dir.iterdir())):
            self.load(path, engine)

    def load(self, path: Path, engine: str) -> None:
        """Load one model folder, or note why it cannot be."""
        started = time.perf_counter()
        try:
            model = open_model(open_model_folder(path), engine)
        except ModelFormatError as error:
            log.error("model %s is not served: %s", path.name, error)
            self._entries[path.name] = Entry(path.name, None, str(error))
            return
        seconds = time.perf_counter() - started
        log.info("model %s %s loaded by %s in %.2f s", model.name, model.version, model.kind, seconds)
        self._entries[model.name] = Entry(model.name, model)

    def entries(self) -> list[Entry]:
        """All models, loaded or not, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    def names(self) -> list[str]:
        """Names of the models that answer."""
        return [entry.name for entry in self.entries() if entry.model]

    def entry(self, name: str) -> Entry:
        """One model, loaded or not.

        :raises ModelNotFound: where there is none of that name.
        """
        if name not in self._entries:
            raise ModelNotFound(name, self.names())
        return self._entries[name]

    def get(self, name: str) -> Model:
        """One model that answers.

        :raises ModelNotFound: where there is none of that name.
        :raises ModelUnavailable: where it could not be loaded.
        """
        entry = self.entry(name)
        if entry.model is None:
            raise ModelUnavailable(name, entry.failure)
        return entry.model

    def close(self) -> None:
        """Close every engine."""
        for entry in self._entries.values():
            if entry.model:
                entry.model.engine.close()
        self._entries.clear()
