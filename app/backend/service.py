"""The backend service: it applies changes to the registry in order, and runs models with their own code.

Every registration has a generation. A change names a model, and applies to the current registration of that name. Code
that waits in between checks the generation again before it acts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.backend.batching import IsDisconnected, QueueResult
from app.backend.handlers import HandlerModel
from app.backend.networks import Networks
from app.backend.registrations import Registration, RegistrationFile, Registrations
from app.backend.shared_state import MODELS, SharedState
from app.backend.sources import find_startup_models, merge_startup_models
from app.engines.base import Engine
from app.engines.openvino import OpenvinoEngine
from app.errors import (
    DimpleError,
    HandlerLoadError,
    ModelConflict,
    ModelFormatError,
    ModelNotFound,
    ModelUnavailable,
    NoWorker,
    SettingError,
    StorageError,
    UnregisterTimeout,
)
from app.formats.archive.cache import remove_unused
from app.formats.archive.manifest import own_handler
from app.handlers.types import HandlerAnswer, HandlerRequest
from app.handlers.worker import LOAD_SECONDS
from app.settings import Settings

FOLLOW_SECONDS = 1.0
"""Seconds between two checks for changes by another server with the same instance folder."""

log = logging.getLogger(__name__)


class BackendService:
    """The registry, the queues and the handler workers. Every method may be called from any thread.

    :param state: state shared by all processes of the server; None creates one for a backend in the same process.
    """

    def __init__(self, settings: Settings, state: SharedState | None = None) -> None:
        self.state = state or SharedState()
        self.networks = Networks()
        self._settings = settings
        self._file = RegistrationFile(settings.instance_dir)
        self._changing_lock = threading.RLock()
        self._next_generation = 1
        self._models: dict[str, Registration] = {}  # replaced, never modified: readers need no lock
        self._handlers: dict[int, HandlerModel] = {}
        self._failures: dict[int, str] = {}
        self._registering: set[str] = set()
        self._leaving: set[int] = set()
        self._known = threading.Event()
        self._started = threading.Event()
        self._start_error: DimpleError | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Read the registrations, find the models of the start, and load their handler code."""
        try:
            with self._changing_lock, self._file.locked():
                known = self._file.recover()
                merged = merge_startup_models(known, find_startup_models(self._settings, known.models))
                self._file.write(merged)  # even if unchanged, because it may come from the copy
                self._adopt(merged)
        except DimpleError as error:
            expected = f"a folder whose registry.json can be read and written ({error})"
            self._start_error = SettingError("DIMPLE_INSTANCE_DIR", self._settings.instance_dir, expected)
        self._known.set()
        for generation, handlers in list(self._handlers.items()):
            registration = next((model for model in self._models.values() if model.generation == generation), None)
            if registration is not None:
                self._wait_for_first_load(handlers, registration)
        self._started.set()
        self._remove_unused_folders()
        threading.Thread(target=self._keep_following, name="registry", daemon=True).start()

    def version(self) -> int:
        """Return the registry's version. It differs after every change."""
        if self._file.is_changed():
            with self._changing():
                pass
        return self.state.version

    def wait_started(self) -> None:
        """Wait until all models of the start are known and their code is loaded.

        :raises SettingError: if the registrations cannot be read.
        """
        self._started.wait()
        if self._start_error is not None:
            raise self._start_error

    def registered(self) -> dict[str, Registration]:
        """Return the registrations by name.

        :raises DimpleError: if they cannot be read.
        """
        return {name: model for name, model in self._models.items() if not model.removed}

    def register(self, registration: Registration, replacing: bool) -> Registration:
        """Register a model, and return the registration with its generation.

        :param replacing: whether it may replace a model of the same name, which answers until then.
        :raises ModelConflict: if a model of that name is registered or is being registered.
        :raises HandlerLoadError: if its code cannot be loaded; nothing is changed.
        :raises RegistryBusy: if the change cannot be stored; also ``StorageError``; nothing is changed.
        """
        name = registration.name
        with self._changing_lock:
            if not replacing and (self._serves(name) or name in self._registering):
                raise ModelConflict(name)
            self._registering.add(name)
        try:
            handlers = self._handlers_of(registration)
            refusal = ModelNotFound(name, [])
            try:
                if handlers is not None:
                    handlers.start(registration)
                with self._changing():
                    if not replacing and self._serves(name):  # another server was faster
                        raise ModelConflict(name)
                    number = self._free_generation()
                    registration = replace(registration, generation=number, changed=True)
                    self._write({**self._models, name: registration}, number + 1)
                    if handlers is not None:
                        self._handlers[number] = handlers
                    self._adopt(Registrations({**self._models, name: registration}, number + 1))
            except BaseException:
                if handlers is not None:
                    handlers.close(refusal, 0)
                raise
        finally:
            with self._changing_lock:
                self._registering.discard(name)
        return registration

    def scale(self, name: str, least: int, most: int, wait_seconds: float) -> None:
        """Change a model's numbers of workers.

        :param wait_seconds: seconds to wait until the model has at least ``least`` workers.
        :raises ModelNotFound: if no model has that name, or it is being unregistered.
        :raises HandlerLoadError: if the workers are not ready in time; they keep retrying.
        """
        with self._changing():
            before = self._current(name)
            registration = replace(before, min_workers=least, max_workers=most, changed=True)
            models = {**self._models, name: registration}
            self._write(models)
            self._adopt(Registrations(models, self._next_generation))
            handlers = self._handlers.get(before.generation)
        if handlers is not None and wait_seconds:
            try:
                handlers.wait_until_loaded(least, wait_seconds)
            except HandlerLoadError:
                # unregistered meanwhile: not found; replaced or scaled again: this change was made, and is superseded
                if self._current(name) == registration:
                    raise

    def unregister(self, name: str) -> None:
        """Unregister a model. Waiting requests are refused; requests under computation are finished.

        :raises ModelNotFound: if no model has that name, or it is being unregistered.
        :raises UnregisterTimeout: if its code still runs after ``unregister_timeout``; its workers are killed, and the
            model is in service again.
        """
        with self._changing():
            registration = self._current(name)
            handlers = self._handlers.get(registration.generation)
            if handlers is None:
                self._remove(registration)
                return
            self._write(self._models)  # an error here comes before any worker is ended
            self._leaving.add(registration.generation)
        try:
            in_time = handlers.close(ModelNotFound(name, []), self._settings.unregister_timeout)
            with self._changing():
                if self._models.get(name, registration).generation != registration.generation:
                    return  # replaced meanwhile: the intended registration is gone
                if not in_time:
                    raise UnregisterTimeout(name)
                self._remove(registration)
        except DimpleError:
            self._leaving.discard(registration.generation)
            if (current := self._models.get(name)) is not None and current.generation == registration.generation:
                handlers.scale(current)
            raise
        finally:
            self._leaving.discard(registration.generation)

    def answer(
        self, name: str, generation: int, request: HandlerRequest, timeout: float, is_disconnected: IsDisconnected
    ) -> QueueResult[HandlerAnswer]:
        """Answer a request with the model's own code.

        :param generation: the registration that the request was meant for; its replacement answers if there is one.
        :param timeout: the registration's ``response_timeout``.
        :raises ModelNotFound: if the name has been unregistered.
        """
        self._known.wait()
        handlers = self._handlers.get(generation)
        if handlers is not None:
            try:
                return handlers.submit(request, is_disconnected)
            except ModelNotFound:
                pass  # closed meanwhile: unregistered or replaced
        registration = self._models.get(name)
        if registration is None or registration.removed or registration.generation in self._leaving:
            raise ModelNotFound(name, [])
        handlers = self._handlers.get(registration.generation)
        if handlers is None:
            reason = self._failures.get(registration.generation, "another model has just replaced it. Try again.")
            raise ModelUnavailable(name, reason)
        return handlers.submit(request, is_disconnected)

    def status(self, generation: int) -> dict[str, Any]:
        """Return the status of the workers of a model with code, as :meth:`HandlerModel.status`."""
        self._known.wait()
        handlers = self._handlers.get(generation)
        if handlers is None:
            return {"workers": [], "failure": self._failures.get(generation, "")}
        return handlers.status()

    def load_network(self, path: Path, milliseconds: float) -> Engine:
        """Load ``model.xml`` with the ``model.bin`` beside it in this process."""
        return OpenvinoEngine.load(path, milliseconds)

    def close(self) -> None:
        """End all handler workers."""
        self._closed.set()
        for handlers in list(self._handlers.values()):
            handlers.close(NoWorker(""), 0)
        self._handlers = {}

    def _serves(self, name: str) -> bool:
        registration = self._models.get(name)
        return registration is not None and not registration.removed

    def _current(self, name: str) -> Registration:
        """Return the current registration of a name unless it is being unregistered.

        :raises ModelNotFound: if there is none.
        """
        registration = self._models.get(name)
        if registration is None or registration.removed or registration.generation in self._leaving:
            raise ModelNotFound(name, sorted(self.registered()))
        return registration

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Lock the registrations for a change by one thread and one server at a time, starting from the last written
        state."""
        self._known.wait()
        with self._changing_lock, self._file.locked():
            if self._file.is_changed():
                self._follow()
            yield

    def _follow(self) -> None:
        """Adopt the changes of another server; rewrite a damaged or missing file."""
        try:
            self._adopt(self._file.read())
        except (OSError, ValueError) as error:
            log.error("%s is damaged or missing (%s), and written again", self._file.path, error)
            self._write(self._models)

    def _write(self, models: dict[str, Registration], next_generation: int | None = None) -> None:
        self._file.write(Registrations(models, next_generation or self._next_generation))

    def _remove(self, registration: Registration) -> None:
        models = {name: model for name, model in self._models.items() if name != registration.name}
        if self._would_return(registration):
            models[registration.name] = replace(registration, removed=True)
        self._write(models)
        self._adopt(Registrations(models, self._next_generation))

    def _would_return(self, registration: Registration) -> bool:
        """Return whether the next start would find a model that is unregistered now."""
        store = self._settings.models_dir
        return registration.at_startup or Path(registration.path).parent == store or (store / registration.url).exists()

    def _free_generation(self) -> int:
        """Return the next generation whose counters no existing registration uses."""
        used = {model.generation % MODELS for model in self._models.values()}
        number = self._next_generation
        while number % MODELS in used and len(used) < MODELS:
            number += 1
        return number

    def _adopt(self, new: Registrations) -> None:
        """Apply the registrations to this process, then notify the HTTP workers."""
        before = {model.generation: model for model in self._models.values() if not model.removed}
        after = {model.generation: model for model in new.models.values() if not model.removed}
        for generation, registration in after.items():
            if generation not in before:
                self._open(registration)
            elif registration != before[generation] and generation in self._handlers:
                self._handlers[generation].scale(registration)
        self._models, self._next_generation = dict(new.models), new.next_generation
        self.state.next_version()
        for generation, registration in before.items():
            if generation not in after:
                self._drop(registration, is_replaced=self._serves(registration.name))

    def _open(self, registration: Registration) -> None:
        """Start the workers of a model with code unless they are running."""
        if registration.failure or registration.generation in self._handlers:
            return
        try:
            handlers = self._handlers_of(registration)
        except DimpleError as error:
            log.error("model %s is not served: %s", registration.name, error)
            self._failures[registration.generation] = str(error)
            return
        if handlers is not None:
            handlers.scale(registration)
            self._handlers[registration.generation] = handlers

    def _drop(self, registration: Registration, is_replaced: bool) -> None:
        """Close an ended registration; if it was replaced, its waiting requests are computed."""
        refusal = None if is_replaced else ModelNotFound(registration.name, [])
        self.networks.forget(registration.generation, refusal)
        self._failures.pop(registration.generation, None)
        handlers = self._handlers.pop(registration.generation, None)
        if handlers is not None:
            arguments = (ModelNotFound(registration.name, []), float(self._settings.unregister_timeout), is_replaced)
            threading.Thread(target=handlers.close, args=arguments, daemon=True).start()

    def _handlers_of(self, registration: Registration) -> HandlerModel | None:
        try:
            default = self._settings.default_service_handler
            handler = own_handler(Path(registration.path), registration.handler, default)
        except ModelFormatError:
            return None  # the HTTP worker that loads it reports the error
        return HandlerModel(registration, handler, self._settings) if handler else None

    def _wait_for_first_load(self, handlers: HandlerModel, registration: Registration) -> None:
        try:
            handlers.wait_until_loaded(registration.min_workers, LOAD_SECONDS)
        except HandlerLoadError as error:
            log.error("model %s does not answer yet: %s", registration.name, error)

    def _keep_following(self) -> None:
        while not self._closed.wait(FOLLOW_SECONDS):
            try:
                if self._file.is_changed():
                    with self._changing():
                        pass
            except DimpleError as error:
                log.error("the registrations cannot be followed: %s", error)
            except Exception:  # the next pass may succeed
                log.exception("the registrations cannot be followed")

    def _remove_unused_folders(self) -> None:
        """Remove the unpacked and installed files of earlier registrations."""
        used = [Path(item.path) for item in self.registered().values()]
        for folder, needed in (("archives", used), ("handlers", [])):
            try:
                remove_unused(self._settings.instance_dir / folder, needed)
            except (ModelFormatError, StorageError) as error:
                log.warning("unused files stay: %s", error)
