"""The training of a project, which runs ``dimple models train`` as a process in the background.

The folder ``job`` of a project belongs to the process: its state, its progress, what it prints, and its result. A
complete result becomes the folder ``result`` in one step; of a training that fails, is cancelled or is killed nothing
remains but the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from app.errors import BadInput, StorageError
from app.formats.folder import open_model_folder
from app.serving.model import Model, open_model
from app.serving.pipeline import classify
from app.serving.teaching_projects import LEAST, Project, Projects
from app.settings import ROOT, Settings, to_environment
from app.telemetry.multiprocess import is_alive, process_key
from app.types import Answer
from app.utils.files import atomic_write, file_lock, replacing_folder, swap_folder
from app.utils.json import read_object
from app.utils.process import kill_group

FINISHED = "finished"
"""Title of the progress of a training that has ended well."""
NICENESS = 5
"""By how much a training is nicer than the server, whose requests come first."""
KILL_SECONDS = 5.0


@dataclass(frozen=True)
class JobState:
    """The state of a training: ``idle``, ``running`` or ``failed``.

    ``title`` names its current task, of which ``done`` of ``total`` is done; ``total`` is None if that is unknown.
    ``seconds`` is the time since its start. ``problem`` is the reason of a failure.
    """

    state: str
    title: str = ""
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class JobResult:
    """A trained model that is not served yet: its folder, its metrics and its held-out predictions, as JSON types."""

    folder: Path
    metrics: Mapping[str, Any]
    predictions: Mapping[str, Any]
    seconds: float
    used: bool


class TrainingJob:
    def __init__(self, project: Project, settings: Settings) -> None:
        self._project = project
        self._settings = settings
        self._folder = project.folder / "job"
        self._result = project.folder / "result"

    def start(self, projects: Projects) -> None:
        """Start a training in the background.

        :raises BadInput: if there are too few pictures, or a training runs.
        :raises StorageError: if the project's folder cannot be written.
        """
        self._check_pictures()
        with _lock(self._project.folder.parent):
            for other in projects.all():
                if TrainingJob(other, self._settings).is_running():
                    raise BadInput(f"The model {other.name} is being trained. Wait until it is done, or cancel it.")
            shutil.rmtree(self._folder, ignore_errors=True)
            self._project.note(problem="")
            try:
                (self._folder / "temporary").mkdir(parents=True)
                process = self._spawn()
            except OSError as error:
                raise StorageError(self._folder.name, error.strerror or str(error)) from None
            with contextlib.suppress(psutil.Error):
                psutil.Process(process.pid).nice(NICENESS)
            facts = {"process": process_key(process.pid), "started": time.time()}
            atomic_write(self._folder / "job.json", json.dumps(facts))
        threading.Thread(target=process.wait, name="training", daemon=True).start()  # leaves no zombie

    def cancel(self) -> None:
        """Stop the training, and remove what it has written; nothing happens if none runs."""
        with _lock(self._project.folder.parent):
            key = str(self._facts().get("process", ""))
            if _is_running(key):
                _kill(int(key.partition("-")[0]))
            self._clear("The training was cancelled.")

    def is_running(self) -> bool:
        """Return whether the training's process is at work."""
        key, progress = str(self._facts().get("process", "")), read_object(self._folder / "progress.json")
        return _is_running(key) and progress.get("title") != FINISHED

    def state(self) -> JobState:
        """Return the current state. A training that has ended is completed, or cleared away, by this."""
        facts = self._facts()
        if not facts:
            problem = str(self._project.fact("problem") or "")
            return JobState("failed", problem=problem) if problem else JobState("idle")
        if self.is_running():
            progress, seconds = read_object(self._folder / "progress.json"), max(0.0, time.time() - facts["started"])
            title, done, total = str(progress.get("title", "starting")), progress.get("done", 0), progress.get("total")
            return JobState("running", title, int(done), total, seconds)
        self._settle(facts)
        return self.state()

    def result(self) -> JobResult | None:
        """Return the result of the last complete training; None if there is none."""
        facts = read_object(self._result / "result.json")
        folder = self._result / "model" / str(facts.get("name", ""))
        metrics, predictions = read_object(folder / "metrics.json"), read_object(self._result / "predictions.json")
        if not facts or not metrics or not predictions:
            return None
        return JobResult(folder, metrics, predictions, float(facts["seconds"]), (self._result / "used").exists())

    def promote(self) -> Path:
        """Copy the result to the models folder, where it replaces an earlier model of this project at once.

        :returns: the model's folder.
        :raises BadInput: if there is no result, or a model of that name was made elsewhere.
        :raises StorageError: if the models folder cannot be written.
        """
        result = self.result()
        if result is None:
            raise BadInput("There is no trained model yet. Train one first.")
        folder = self._settings.models_dir / result.folder.name
        made_by = read_object(folder / "metrics.json").get("made_by")
        if folder.exists() and made_by != result.metrics.get("made_by"):
            raise BadInput(f"There is another model {folder.name}, which was not taught here. Choose another name.")
        try:
            with replacing_folder(folder) as partial:
                shutil.copytree(result.folder, partial, dirs_exist_ok=True)
            shutil.copyfile(self._result / "predictions.json", self._project.folder / "served.json")
            (self._result / "used").touch()
        except OSError as error:
            raise StorageError(folder.name, error.strerror or str(error)) from None
        return folder

    @property
    def served_predictions(self) -> Path | None:
        """Return the held-out predictions of the model of this project that is served; None if none is."""
        path = self._project.folder / "served.json"
        return path if path.is_file() else None

    def _check_pictures(self) -> None:
        classes = self._project.classes()
        if len(classes) < 2:
            raise BadInput("A model needs two classes at least. Add another class, and pictures to it.")
        few = [f"{kind.label} ({len(kind.pictures)})" for kind in classes if len(kind.pictures) < LEAST]
        if few:
            raise BadInput(f"Every class needs {LEAST} pictures at least. Add some to: {', '.join(few)}.")

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = {
            "--output": self._folder / "model",
            "--predictions": self._folder / "predictions.json",
            "--progress": self._folder / "progress.json",
            "--earlier": self.served_predictions,
            "--against": self._project.fact("origin"),
        }
        command = [sys.executable, str(ROOT / "bin" / "dimple"), "models", "train", self._project.name]
        command += [str(self._project.pictures_dir)]
        command += [str(part) for option, path in options.items() if path is not None for part in (option, path)]
        environ = {**os.environ, **to_environment(asdict(self._settings)), "TMPDIR": str(self._folder / "temporary")}
        for name in ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS"):  # each server process has one core, a training all
            environ.pop(name, None)
        with (self._folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _settle(self, facts: Mapping[str, Any]) -> None:
        """Keep the result of a training that has ended well, or else the reason."""
        with _lock(self._project.folder.parent):
            if self._facts() != facts:
                return  # another process has done it, or has started the next training
            progress = self._folder / "progress.json"
            if read_object(progress).get("title") != FINISHED:
                self._clear(self._reason())
                return
            seconds = progress.stat().st_mtime - float(facts["started"])
            document = {"name": self._project.name, "seconds": round(seconds, 1)}
            for name in ("job.json", "progress.json", "output.txt"):
                (self._folder / name).unlink(missing_ok=True)
            shutil.rmtree(self._folder / "temporary", ignore_errors=True)
            atomic_write(self._folder / "result.json", json.dumps(document))
            swap_folder(self._folder, self._result)

    def _reason(self) -> str:
        """Return the error that the process has printed last."""
        with contextlib.suppress(OSError):
            lines = (self._folder / "output.txt").read_text(errors="replace").splitlines()
            errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
            if errors:
                return errors[-1].replace(str(self._project.pictures_dir), "The project")
        return "The training ended before it was done. Start it again."

    def _clear(self, problem: str) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._project.note(problem=problem)

    def _facts(self) -> dict[str, Any]:
        return read_object(self._folder / "job.json")


def _lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    return file_lock(folder / "lock")


def _is_running(key: str) -> bool:
    if not key or not is_alive(key):
        return False
    try:
        return bool(psutil.Process(int(key.partition("-")[0])).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    """Kill a training with the processes that it has started, and wait until it is gone."""
    kill_group(pid)
    until = time.monotonic() + KILL_SECONDS
    while _is_running(process_key(pid)) and time.monotonic() < until:
        time.sleep(0.02)


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
