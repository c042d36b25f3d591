"""Which models there are, and those among them that answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.dispatch import about_to_block
from app.errors import (
    CleaningTimeout,
    DimpleError,
    HandlerLoadError,
    ModelConflict,
    ModelNotFound,
    ModelUnavailable,
    NoWorker,
    RegistryBusy,
    StorageError,
)
from app.serving import measuring
from app.serving.entry import Entry, end, open_entry
from app.serving.handled import HandledModel
from app.serving.loading import away, load, rescale
from app.serving.model import Model
from app.serving.startup import told_models
from app.serving.store import Registration, Store
from app.settings import Settings

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0


class Registry:
    """The models of one process, in line with what is registered for all.

    Reading takes no lock: the entries are one dictionary, which is never changed but replaced. A model that goes stays
    in memory until the last request that uses it is answered.
    """

    def __init__(self, settings: Settings) -> None:
        self._store: Store | None = None
        self._settings = settings
        self._entries: dict[str, Entry] = {}
        self._closed = threading.Event()
        self._leaving: frozenset[str] = frozenset()
        self._changing = threading.RLock()
        self._followed: int | None = None
        self._blind: tuple[int, float] | None = None

    def start(self, store: Store) -> None:
        """Load the models that the settings tell, but those that were unregistered, and everything that was registered
        besides. One that cannot be loaded is noted and spoils no other.

        :param store: what was registered, and where all that will be is kept.
        """
        with self._changing:
            self._store, known = store, store.all()
            for told in told_models(self._settings, store):
                if told.failure:
                    self._put(Entry(told.registration.name, None, told.registration, told.failure, at_startup=True))
                else:
                    self._start(told.registration, known)
            self.follow()
        threading.Thread(target=self._keep_following, name="registry", daemon=True).start()

    def _keep_following(self) -> None:
        """A process that nobody asks anything lets go, and loads, all the same."""
        while not self._closed.wait(FOLLOW_SECONDS):
            try:
                self._try_again()
                self._stored().look()
                self.follow()
            except DimpleError as error:
                self._be_blind(error)
            except Exception:  # whatever it was, the next look may find it gone
                log.exception("the registrations cannot be followed")

    def _try_again(self) -> None:
        """Load what could not be loaded for a reason that may have passed."""
        for entry in self.entries():
            if entry.passing:
                again = replace(open_entry(entry.registration, self._settings, entry), at_startup=entry.at_startup)
                with self._changing:
                    if self._entries.get(entry.name) is entry:
                        self._put(again)

    def follow(self) -> None:
        """Bring this process in line with what was registered, scaled or unregistered by any. To be called before every
        request: where nothing has changed, it takes less than a microsecond. Where that cannot be read, what was loaded
        before goes on."""
        if self._store is None or (version := self._store.version()) == self._followed:
            return
        if self._blind and self._blind[0] == version and time.monotonic() < self._blind[1]:
            return
        about_to_block()
        if not self._changing.acquire(blocking=False):
            return  # another thread is at it; who misses a model waits for it in ``entry``
        try:
            version = self._store.version()
            self._adopt_all(self._store.all())
            self._followed = version
            if self._blind:
                log.info("the registrations can be read again")
            self._blind = None
        except (RegistryBusy, StorageError) as error:
            self._be_blind(error)
        finally:
            self._changing.release()

    def _be_blind(self, error: DimpleError) -> None:
        """Ask for the registrations a little later again, or when they change; say so once."""
        if not self._blind:
            log.error("the registrations cannot be read, so that those of before stay: %s", error)
        self._blind = (self._stored().version(), time.monotonic() + FOLLOW_SECONDS / 2)

    def register(self, registration: Registration, instead: bool = False) -> Entry:
        """Load a model and keep it for every process and every later start.

        :param instead: whether it takes the place of a model of its name; that one answers until this one can.
        :raises ModelConflict: where one of that name is registered, and is to stay.
        :raises ModelFormatError: where it cannot be loaded, as ``HandlerLoadError``; nothing is changed then.
        :raises RegistryBusy: where it cannot be kept, as ``StorageError``; nothing is changed then.
        """
        if not instead and self._stays(registration.name):
            raise ModelConflict(registration.name)
        started = time.perf_counter()
        model = load(registration, self._settings)
        if isinstance(model, HandledModel):
            try:
                model.start(registration.min_workers)
            except HandlerLoadError:
                model.close(0)
                raise
        with self._changing:
            try:
                self._keep(registration, instead)
            except DimpleError:  # another process was faster, or the disk is full
                end(model, self._settings)
                raise
            entry = Entry(registration.name, model, registration)
            self._exchange(entry)
        measuring.loaded(entry.name, time.perf_counter() - started)
        log.info("model %s registered from %s", entry.name, registration.url)
        return entry

    def _stays(self, name: str) -> bool:
        """Whether a model that this process has is registered: another may have unregistered it, and a thread of this
        one be about to let go of it."""
        entry = self._entries.get(name)
        return entry is not None and entry.is_registered(self._stored().all())

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
        :raises CleaningTimeout: where its processes are still answering when ``unregister_timeout`` is over; they were
            ended, and the model is in service again.
        :raises RegistryBusy: where that cannot be kept, as ``StorageError``; the model stays in service.
        """
        with self._changing:
            entry = self.entry(name)
            self._stored().check()
            self._leaving = self._leaving | {name}
            self._remove(name)
        try:
            self._let_go(entry)
        finally:
            with self._changing:
                self._leaving = self._leaving - {name}
        log.info("Model %s unregistered.", name)

    def away(self) -> str:
        """Why the cluster computes none of the models that it should; empty where it does, or there is none."""
        engines = [entry.model.engine for entry in self.entries() if isinstance(entry.model, Model)]
        reasons = [reason for engine in engines if (reason := away(engine)) is not None]
        return reasons[0] if reasons and all(reasons) else ""

    def entries(self) -> list[Entry]:
        """All models, loaded or not, by name."""
        entries = self._entries
        return [entries[name] for name in sorted(entries)]

    def names(self) -> list[str]:
        """Names of the models that answer."""
        return [entry.name for entry in self.entries() if entry.model]

    def knows(self, name: str) -> bool:
        """Whether there is a model of that name at this moment. It waits for none that is being loaded."""
        return name in self._entries

    def loaded(self, name: str) -> Model | HandledModel | None:
        """Return a model that answers at this moment, if there is one of that name. It waits for none that is being
        loaded."""
        entry = self._entries.get(name)
        return entry.model if entry and entry.registration.min_workers > 0 else None

    def entry(self, name: str) -> Entry:
        """One model, loaded or not.

        :raises ModelNotFound: where there is none of that name.
        """
        if entry := self._entries.get(name):
            return entry
        about_to_block()
        with self._changing:  # it may be loading at this moment
            self.follow()  # who was at it may have looked before this one was registered
            if entry := self._entries.get(name):
                return entry
        raise ModelNotFound(name, self.names())

    @contextmanager
    def admitted(self, name: str) -> Iterator[Model | HandledModel]:
        """One model that answers, for the time of one request: so long it is not closed.

        :raises ModelNotFound: where there is none of that name.
        :raises NoWorker: where it was given no worker.
        :raises QueueFull: where as many wait for it as may.
        :raises ModelUnavailable: where it could not be loaded.
        """
        measuring.asked.set(name)
        model = self.served(name)
        while not model.line.enter():  # another has taken its place at this moment, or it is gone
            model = self.served(name)
        try:
            with measuring.in_flight(name):
                yield model
        finally:
            model.line.leave()

    @contextmanager
    def computed(self, name: str) -> Iterator[Model]:
        """The same of a model that our engines compute.

        :raises ModelUnavailable: where it brings its own code, too.
        """
        with self.admitted(name) as model:
            if isinstance(model, HandledModel):
                raise ModelUnavailable(name, f"it brings its own code, which answers at /predictions/{name}")
            yield model

    def served(self, name: str) -> Model | HandledModel:
        """One model that answers.

        :raises ModelNotFound: as :meth:`admitted`, as ``NoWorker`` and ``ModelUnavailable``.
        """
        entry = self.entry(name)
        if entry.model is None:
            raise ModelUnavailable(name, entry.failure)
        if entry.registration.min_workers < 1:
            raise NoWorker(name)
        return entry.model

    def close(self) -> None:
        """Close every engine, and the store."""
        self._closed.set()
        with self._changing:
            for entry in self._entries.values():
                if isinstance(entry.model, HandledModel):
                    entry.model.close(0)
                elif entry.model:
                    entry.model.engine.close()
            self._entries = {}
            if self._store:
                self._store.close()

    def _start(self, told: Registration, known: dict[str, Registration]) -> None:
        """Load a model of the models folder, with the settings that it was given while the server ran, if any."""
        registration = known.get(told.name, told)
        if registration.path != told.path and registration.url == told.url and not registration.removed:
            registration = replace(registration, path=told.path)  # the archive was packed anew
            try:
                self._stored().replace(registration)
            except (RegistryBusy, StorageError) as error:
                log.error("the new path of %s is not kept: %s", registration.name, error)
        if not registration.removed and registration.path == told.path:
            self._put(replace(open_entry(registration, self._settings), at_startup=True))

    def _let_go(self, entry: Entry) -> None:
        """Let a model answer its last requests, then forget it; put it back where that takes too long."""
        if isinstance(entry.model, HandledModel) and not entry.model.close(self._settings.unregister_timeout):
            self._take_back(entry)
            raise CleaningTimeout(entry.name)
        try:
            if entry.at_startup:
                self._stored().replace(replace(entry.registration, removed=True))
            else:
                self._stored().remove(entry.name)
        except DimpleError:
            self._take_back(entry)
            raise

    def _take_back(self, entry: Entry) -> None:
        """Serve again what was to go."""
        if isinstance(entry.model, HandledModel):
            entry.model.open(entry.registration)
        with self._changing:
            self._put(entry)

    def _adopt_all(self, registered: dict[str, Registration]) -> None:
        for entry in self.entries():
            if not entry.is_registered(registered):
                self._remove(entry.name)
                end(entry.model, self._settings)
        for registration in registered.values():
            if not registration.removed and registration.name not in self._leaving:
                self._adopt(registration)

    def _adopt(self, registration: Registration) -> None:
        """Load what another process has registered, or take over its settings."""
        entry = self._entries.get(registration.name)
        if entry is None or not entry.registration.loads_as(registration):
            self._exchange(open_entry(registration, self._settings, entry))
        elif entry.registration != registration:
            self._rescale(entry, registration)

    def _rescale(self, entry: Entry, registration: Registration) -> None:
        """Take over a model's settings. Processes come up, and end after what they are answering, in their own time."""
        if isinstance(entry.model, HandledModel):
            entry.model.workers.scale(registration.min_workers, registration.max_workers)
            entry.model.line.resize(registration.min_workers)
        elif entry.model:
            rescale(entry.model, registration)
        self._put(replace(entry, registration=registration))

    def _put(self, entry: Entry) -> None:
        self._entries = {**self._entries, entry.name: entry}

    def _exchange(self, entry: Entry) -> None:
        """Put a model in the place of the one that has its name, if any, which answers what it has begun."""
        before = self._entries.get(entry.name)
        self._put(entry)
        if before:
            end(before.model, self._settings)

    def _keep(self, registration: Registration, instead: bool) -> None:
        if instead:
            self._stored().replace(registration)
        else:
            self._stored().add(registration)

    def _remove(self, name: str) -> None:
        self._entries = {other: entry for other, entry in self._entries.items() if other != name}

    def _stored(self) -> Store:
        assert self._store is not None, "nothing can be registered before start was called"
        return self._store
