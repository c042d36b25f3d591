"""The models of one HTTP worker, synchronized with the backend's registrations."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from app.backend.client import Backend
from app.backend.registrations import Registration
from app.backend.service import BackendService
from app.errors import DimpleError, ModelConflict, ModelNotFound, ModelUnavailable, NoWorker, QueueFull
from app.serving.custom_model import CustomModel
from app.serving.loader import Entry, capacity, cluster_error, load, open_entry, rescale
from app.serving.model import Model
from app.settings import Settings
from app.telemetry import metrics
from app.utils.dispatch import about_to_block
from app.utils.progress import item

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0
LOADED_AT_ONCE = 2
"""Models that a process loads at the same time when it starts."""


class Registry:
    """The models of one process. A request sees every change whose response was sent before the request came.

    Reading takes no lock: the dictionaries of registrations and models are replaced, never modified. A retired model
    stays in memory until its last request ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started: Backend | None = None
        self._registered: dict[str, Registration] = {}
        self._entries: dict[str, Entry] = {}
        self._version: int | None = None
        self._refreshing = threading.Lock()
        self._replacing = threading.Lock()
        self._loading: dict[str, threading.RLock] = {}
        self._unreadable_until = 0.0
        self._is_unreadable = False
        self._wake = threading.Event()
        self._closed = False

    def start(self, backend: Backend | None = None) -> None:
        """Load all registered models. A model that cannot be loaded is recorded, and does not affect the others.

        :param backend: the backend process; None makes this process its own backend.
        :raises SettingError: if the registrations cannot be read.
        """
        if backend is None:
            backend = BackendService(self._settings)
            backend.start()
        self._started = backend
        backend.wait_started()
        self.refresh()
        self._load_all()
        threading.Thread(target=self._keep_following, name="registry", daemon=True).start()

    def _load_all(self) -> None:
        """Load all registered models, several at once: one may wait for the backend while another computes."""
        names = sorted(self._registered)
        waiting = deque(enumerate(names, 1))

        def load_next() -> None:
            while waiting:
                with suppress(IndexError, ModelNotFound):
                    number, name = waiting.popleft()
                    with item(number, len(names)):
                        self.entry(name)

        threads = [threading.Thread(target=load_next, name="loading", daemon=True) for _ in range(LOADED_AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def refresh(self) -> None:
        """Apply changes of the registrations. Call this before every request: without changes it takes less than a
        microsecond. If the registrations cannot be read, the previous ones remain."""
        if self._started is None or self._started.version() == self._version:
            return
        about_to_block()
        with self._refreshing:
            version = self._backend.version()
            if version == self._version or time.monotonic() < self._unreadable_until:
                return
            try:
                self._registered = self._backend.registered()
            except DimpleError as error:
                if not self._is_unreadable:
                    log.error("the registrations cannot be read; the previous registrations stay: %s", error)
                self._is_unreadable, self._unreadable_until = True, time.monotonic() + FOLLOW_SECONDS / 2
                return
            self._is_unreadable, self._version = False, version
        self._drop_unregistered()
        self._wake.set()  # to load new models

    def register(self, registration: Registration, replacing: bool = False) -> Entry:
        """Load and serve a model.

        :param replacing: whether it replaces a model of the same name, which answers until this one can.
        :raises ModelConflict: if a model of that name is registered.
        :raises ModelFormatError: if it cannot be loaded; also ``HandlerLoadError``; nothing is changed.
        :raises RegistryBusy: if the change cannot be stored; also ``StorageError``; nothing is changed.
        """
        name = registration.name
        if not replacing and name in self._registered:
            raise ModelConflict(name)
        started = time.perf_counter()
        model = load(registration, self._settings, self._backend)
        with self._lock_of(name):
            try:
                registration = self._backend.register(registration, replacing)
            except BaseException:
                _close(model)
                raise
            self.refresh()
            entry = Entry(name, model.with_generation(registration.generation), registration)
            if self._registered.get(name, registration).generation == registration.generation:
                self._put(entry)
            else:
                _close(model)  # already replaced by another
        metrics.loaded(name, time.perf_counter() - started)
        log.info("model %s registered from %s", name, registration.url)
        return entry

    def scale(self, name: str, least: int, most: int, wait_seconds: float) -> None:
        """Change a model's numbers of workers.

        :param wait_seconds: seconds to wait until a model with its own code has at least ``least`` workers.
        :raises ModelNotFound: if no model has that name.
        :raises HandlerLoadError: if the workers are not ready in time; they keep retrying.
        """
        self._backend.scale(name, least, most, wait_seconds)
        self.refresh()

    def unregister(self, name: str) -> None:
        """Unregister a model.

        :raises ModelNotFound: if no model has that name.
        :raises UnregisterTimeout: if its workers are still busy after ``unregister_timeout``; they were killed, and the
            model is in service again.
        :raises RegistryBusy: if the change cannot be stored; also ``StorageError``; the model stays in service.
        """
        self._backend.unregister(name)
        self.refresh()
        log.info("Model %s unregistered.", name)

    def cluster_error(self) -> str:
        """Return the reason why the cluster computes none of its models; empty if it does, or there is no cluster."""
        engines = [entry.model.engine for entry in self._entries.values() if isinstance(entry.model, Model)]
        reasons = [reason for engine in engines if (reason := cluster_error(engine)) is not None]
        return reasons[0] if reasons and all(reasons) else ""

    def entries(self) -> list[Entry]:
        """Return all models by name, loaded or not."""
        entries = []
        for name in sorted(self._registered):
            try:
                entries.append(self.entry(name))
            except ModelNotFound:
                continue
        return entries

    def names(self) -> list[str]:
        """Return the names of the models that answer."""
        return [name for name, entry in sorted(self._entries.items()) if entry.model and name in self._registered]

    def __contains__(self, name: str) -> bool:
        """Return whether a model of that name exists."""
        return name in self._registered

    def loaded(self, name: str) -> Model | CustomModel | None:
        """Return a loaded model of that name, or None, without waiting for a model that is being loaded."""
        entry = self._entries.get(name)
        return entry.model if entry and entry.registration.min_workers > 0 else None

    def entry(self, name: str) -> Entry:
        """Return a model, loaded or not. This waits for the first load of a new model.

        :raises ModelNotFound: if no model has that name.
        """
        entry, registration = self._entries.get(name), self._registered.get(name)
        if entry is not None and entry.registration is registration:
            return entry
        if registration is None:
            raise ModelNotFound(name, self.names())
        about_to_block()
        with self._lock_of(name):
            entry, registration = self._entries.get(name), self._registered.get(name)
            if registration is None:
                raise ModelNotFound(name, self.names())
            if entry is None or entry.registration.generation != registration.generation:
                entry = open_entry(registration, self._settings, self._backend, entry)
            elif entry.registration != registration and isinstance(entry.model, Model):
                rescale(entry.model, registration)
            return self._put(replace(entry, registration=registration))

    @contextmanager
    def acquire(self, name: str) -> Iterator[Model | CustomModel]:
        """Use a model for the duration of one request, during which it is not closed.

        :raises ModelNotFound: if no model has that name.
        :raises NoWorker: if it has 0 workers by configuration.
        :raises QueueFull: if the limit of its waiting requests, over all processes, is reached.
        :raises ModelUnavailable: if it could not be loaded.
        """
        metrics.requested_model.set(name)
        entry = self._ready_entry(name)
        assert entry.model is not None
        if entry.model.is_remote:
            about_to_block()
        state, generation = self._backend.state, entry.registration.generation
        if not state.enter(generation, capacity(entry) + self._settings.job_queue_size):
            metrics.refused(name)
            raise QueueFull(name)
        try:
            with metrics.in_flight(name):
                yield entry.model
        finally:
            state.leave(generation)

    @contextmanager
    def acquire_builtin(self, name: str) -> Iterator[Model]:
        """Use a model that our engines compute.

        :raises ModelUnavailable: as :meth:`acquire`, and if it has its own code.
        """
        with self.acquire(name) as model:
            if isinstance(model, CustomModel):
                raise ModelUnavailable(name, f"it brings its own code, which answers at /predictions/{name}")
            yield model

    def get_ready(self, name: str) -> Model | CustomModel:
        """Return a model that answers.

        :raises ModelNotFound: as :meth:`acquire`; also ``NoWorker`` and ``ModelUnavailable``.
        """
        model = self._ready_entry(name).model
        assert model is not None
        return model

    def close(self) -> None:
        """Close every engine, and the backend if it is this process."""
        self._closed = True
        self._wake.set()
        with self._replacing:
            entries, self._entries, self._registered = self._entries, {}, {}
        for entry in entries.values():
            _close(entry.model)
        if self._started is not None:
            self._started.close()

    @property
    def _backend(self) -> Backend:
        assert self._started is not None, "nothing can be registered before start was called"
        return self._started

    def _ready_entry(self, name: str) -> Entry:
        entry = self.entry(name)
        if entry.model is None:
            raise ModelUnavailable(name, entry.failure)
        if entry.registration.min_workers < 1:
            raise NoWorker(name)
        return entry

    def _keep_following(self) -> None:
        """Load new models, and retry temporary failures, even without requests."""
        while not self._closed:
            self._wake.wait(FOLLOW_SECONDS)
            self._wake.clear()
            try:
                self.refresh()
                for entry in self.entries():
                    if entry.passing:
                        self._try_again(entry)
            except Exception:  # the next pass may succeed
                if not self._closed:
                    log.exception("the registrations cannot be followed")

    def _try_again(self, entry: Entry) -> None:
        with self._lock_of(entry.name):
            if self._entries.get(entry.name) is entry:
                self._put(open_entry(entry.registration, self._settings, self._backend, entry))

    def _drop_unregistered(self) -> None:
        with self._replacing:
            gone = [entry for name, entry in self._entries.items() if name not in self._registered]
            self._entries = {name: entry for name, entry in self._entries.items() if name in self._registered}
        for entry in gone:
            _retire(entry, refuse=True)

    def _put(self, entry: Entry) -> Entry:
        """Replace the model of the same name, which still finishes its requests."""
        with self._replacing:
            before = self._entries.get(entry.name)
            self._entries = {**self._entries, entry.name: entry}
        if before is not None and before.model is not entry.model:
            _retire(before, refuse=False)
        return entry

    def _lock_of(self, name: str) -> threading.RLock:
        """Return the lock for loading the model of a name."""
        with self._replacing:
            if len(self._loading) > 2 * len(self._registered) + 100:  # remove the locks of former names
                self._loading = {item: lock for item, lock in self._loading.items() if item in self._registered}
            return self._loading.setdefault(name, threading.RLock())


def _retire(entry: Entry, refuse: bool) -> None:
    """Retire a model.

    :param refuse: whether its waiting requests are refused.
    """
    if isinstance(entry.model, Model):
        if refuse:
            entry.model.refuse(ModelNotFound(entry.name, []))
        entry.model.retire()


def _close(model: Model | CustomModel | None) -> None:
    if isinstance(model, Model):
        model.engine.close()
