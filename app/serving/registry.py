"""Which models there are, and those among them that answer."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from app.errors import HandlerLoadError, ModelConflict, ModelFormatError, ModelNotFound, ModelUnavailable, NoWorker
from app.formats.archive.opening import archive_name, is_archive, open_archive
from app.formats.folder import is_model_folder, open_model_folder
from app.serving.handled import HandledModel, open_handled, own_handler
from app.serving.model import Model, open_model
from app.serving.store import Registration, Store

CLOSE_SECONDS = 120.0
"""What the processes of a model that goes have for what they are answering; MMS's ``unregister_model_timeout``."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A model by name: loaded, or the reason why not. ``at_startup`` says that it lies in the models folder."""

    name: str
    model: Model | HandledModel | None
    registration: Registration
    failure: str = ""
    at_startup: bool = False
    since: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class Registry:
    """The models of one process, in line with what is registered for all.

    Reading takes no lock: the entries are one dictionary, which is never changed but replaced. A model that goes stays
    in memory until the last request that uses it is answered.

    :param engine: as :func:`app.engines.opening.load` takes it.
    """

    def __init__(self, engine: str) -> None:
        self._store: Store | None = None
        self._engine = engine
        self._entries: dict[str, Entry] = {}
        self._changing = threading.RLock()
        self._followed: int | None = None

    def load_folder(self, models_dir: Path, archives: Path, workers: int, store: Store) -> None:
        """Load every model folder under ``models_dir``, but those that were unregistered, and everything that was
        registered besides. One that cannot be loaded is noted and spoils no other.

        :param archives: where the archives of the models folder are unpacked.
        :param workers: how many each model of the folder is said to have.
        :param store: what was registered, and where all that will be is kept.
        """
        with self._changing:
            self._store, known = store, store.all()
            for path in sorted(models_dir.iterdir()):
                if is_model_folder(path):
                    self._start(_told(path.name, path.name, path, workers), known)
                elif is_archive(path) and path.suffix.lower() != ".zip":  # a zip may as well hold pictures
                    self._start_archive(path, archives, workers, known)
            self.follow()

    def follow(self) -> None:
        """Bring this process in line with what was registered, scaled or unregistered by any. To be called before every
        request: where nothing has changed, it takes microseconds."""
        if self._store is None or self._store.version() == self._followed:
            return
        if not self._changing.acquire(blocking=False):
            return  # another thread is at it; who misses a model waits for it in ``entry``
        try:
            version = self._store.version()
            self._adopt_all(self._store.all())
            self._followed = version
        finally:
            self._changing.release()

    def register(self, registration: Registration) -> Entry:
        """Load a model and keep it for every process and every later start.

        :raises ModelConflict: where one of that name is registered.
        :raises ModelFormatError: where it cannot be loaded; nothing is kept then.
        """
        if registration.name in self._entries:
            raise ModelConflict(registration.name)
        model = self._model(registration)
        with self._changing:
            try:
                self._stored().add(registration)
            except ModelConflict:  # another process was faster
                _end(model)
                raise
            entry = Entry(registration.name, model, registration)
            self._put(entry)
        log.info("model %s registered from %s", entry.name, registration.url)
        return entry

    def change(self, registration: Registration, wait_seconds: float) -> None:
        """Keep other settings for a model.

        :param wait_seconds: how long to wait until a model with code of its own has the workers that it is to have.
        :raises ModelNotFound: where there is none of that name.
        :raises HandlerLoadError: where it has not got them by then; it goes on trying.
        """
        with self._changing:
            entry = self.entry(registration.name)
            self._stored().replace(registration)
            self._rescale(entry, registration)
        if isinstance(entry.model, HandledModel) and wait_seconds:
            entry.model.workers.start(registration.min_workers, wait_seconds)

    def unregister(self, name: str) -> None:
        """Take a model out of service, for every process and every later start.

        :raises ModelNotFound: where there is none of that name.
        """
        with self._changing:
            entry = self.entry(name)
            if entry.at_startup:
                self._stored().replace(replace(entry.registration, removed=True))
            else:
                self._stored().remove(name)
            self._drop(name)
        log.info("Model %s unregistered.", name)

    def entries(self) -> list[Entry]:
        """All models, loaded or not, by name."""
        entries = self._entries
        return [entries[name] for name in sorted(entries)]

    def names(self) -> list[str]:
        """Names of the models that answer."""
        return [entry.name for entry in self.entries() if entry.model]

    def entry(self, name: str) -> Entry:
        """One model, loaded or not.

        :raises ModelNotFound: where there is none of that name.
        """
        if entry := self._entries.get(name):
            return entry
        with self._changing:  # it may be loading at this moment
            if entry := self._entries.get(name):
                return entry
        raise ModelNotFound(name, self.names())

    def get(self, name: str) -> Model:
        """One model that our engines compute.

        :raises ModelUnavailable: where it brings its own code, too.
        :raises NoWorker: as :meth:`served`, as all that follow.
        """
        model = self.served(name)
        if isinstance(model, HandledModel):
            raise ModelUnavailable(name, f"it brings its own code, which answers at /predictions/{name}")
        return model

    def served(self, name: str) -> Model | HandledModel:
        """One model that answers.

        :raises ModelNotFound: where there is none of that name.
        :raises NoWorker: where it was given no worker.
        :raises ModelUnavailable: where it could not be loaded.
        """
        entry = self.entry(name)
        if entry.model is None:
            raise ModelUnavailable(name, entry.failure)
        if entry.registration.min_workers < 1:
            raise NoWorker(name)
        return entry.model

    def close(self) -> None:
        """Close every engine, and the store."""
        with self._changing:
            for entry in self._entries.values():
                if isinstance(entry.model, HandledModel):
                    entry.model.workers.close(0)
                elif entry.model:
                    entry.model.engine.close()
            self._entries = {}
            if self._store:
                self._store.close()

    def _start(self, told: Registration, known: dict[str, Registration]) -> None:
        """Load a model of the models folder, with the settings that it was given while the server ran, if any."""
        registration = known.get(told.name, told)
        if not registration.removed and registration.path == told.path:
            self._put(replace(self._open(registration), at_startup=True))

    def _start_archive(self, path: Path, archives: Path, workers: int, known: dict[str, Registration]) -> None:
        try:
            folder = open_archive(path, archives)
        except ModelFormatError as error:
            log.error("the archive %s is not served: %s", path.name, error)
            name = archive_name(path)
            told = Registration(name, path.name, str(path), min_workers=workers, max_workers=workers)
            self._put(Entry(name, None, told, str(error), at_startup=True))
            return
        self._start(_told(folder.name, path.name, folder, workers), known)

    def _adopt_all(self, registered: dict[str, Registration]) -> None:
        for entry in self.entries():
            known = registered.get(entry.name)
            if known.removed if known else not entry.at_startup:
                self._drop(entry.name)
        for registration in registered.values():
            if not registration.removed:
                self._adopt(registration)

    def _adopt(self, registration: Registration) -> None:
        """Load what another process has registered, or take over its settings."""
        entry = self._entries.get(registration.name)
        if entry is None or entry.registration.path != registration.path:
            self._put(self._open(registration))
        elif entry.registration != registration:
            self._rescale(entry, registration)

    def _open(self, registration: Registration) -> Entry:
        """Load a model, or note why it cannot be."""
        started = time.perf_counter()
        try:
            model = self._model(registration)
        except (ModelFormatError, HandlerLoadError) as error:
            log.error("model %s is not served: %s", registration.name, error)
            return Entry(registration.name, None, registration, str(error))
        seconds = time.perf_counter() - started
        log.info("model %s %s loaded by %s in %.2f s", model.name, model.version, model.kind, seconds)
        return Entry(registration.name, model, registration)

    def _model(self, registration: Registration) -> Model | HandledModel:
        path = Path(registration.path)
        if handler := own_handler(path, registration.handler):
            return open_handled(path, handler, registration)
        return open_model(replace(open_model_folder(path), name=registration.name), self._engine)

    def _rescale(self, entry: Entry, registration: Registration) -> None:
        """Take over a model's settings. Processes come up, and end after what they are answering, in their own time."""
        if isinstance(entry.model, HandledModel):
            entry.model.workers.scale(registration.min_workers, registration.max_workers)
        self._put(replace(entry, registration=registration))

    def _put(self, entry: Entry) -> None:
        self._entries = {**self._entries, entry.name: entry}

    def _drop(self, name: str) -> None:
        if gone := self._entries.get(name):
            _end(gone.model)
        self._entries = {other: entry for other, entry in self._entries.items() if other != name}

    def _stored(self) -> Store:
        assert self._store is not None, "nothing can be registered before load_folder was called"
        return self._store


def _end(model: Model | HandledModel | None) -> None:
    """End a model's processes once they have answered. What an engine holds goes with its last request."""
    if isinstance(model, HandledModel):
        threading.Thread(target=model.workers.close, args=(CLOSE_SECONDS,), daemon=True).start()


def _told(name: str, url: str, path: Path, workers: int) -> Registration:
    """How a model of the models folder is served where nobody has said otherwise. One with code of its own gets one
    process in each of the server's: as many in all as the others are said to have."""
    try:
        count = 1 if own_handler(path) else workers
    except ModelFormatError:
        count = workers  # what is wrong with it will be told when it is opened
    return Registration(name, url, str(path), min_workers=count, max_workers=count)
