"""TensorFlow and Keras as the reference of what is made of their files, in an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import app.engines.tensorflow_job as job
from app.engines.proof import Program
from app.engines.proof_process import Answers
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.keras_file import read_h5
from app.handlers.environment import pip_options
from app.handlers.requirements import ERROR, InstallFailed, install
from app.settings import ROOT, Settings
from app.types import FloatArray, Signature
from app.utils.error_text import reason_of
from app.utils.files import file_lock
from app.utils.progress import echo, progress

REQUIREMENTS = ROOT / "requirements-tensorflow.txt"
SIZE = "about 300 MB to download, 2 GB on disk"
LONGEST_SECONDS = 1800
LONGEST_LINE = 60
"""Characters of a line of pip that are displayed."""
GRAPHS = {".pb": "frozen", ".tflite": "tflite"}
PROGRAMS = {
    **{"keras": "Keras", "tf_keras": "Keras 2 (tf_keras)", "saved_model": "TensorFlow", "frozen": "TensorFlow"},
    **{"onnx": "TensorFlow", "tflite": "TensorFlow Lite"},
}
"""Names of the programs by the kinds of :mod:`app.engines.tensorflow_job`."""


class TensorflowReference:
    """An environment with TensorFlow and Keras, in ``instance/tensorflow``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.instance_dir / "tensorflow"
        self._marker = self._folder / "installed"

    @property
    def is_installed(self) -> bool:
        """Return whether the packages are installed, at their present versions."""
        return self._marker.is_file() and self._marker.read_text() == self._expected()

    def _expected(self) -> str:
        return f"{sys.version}\n{REQUIREMENTS.read_text()}"

    def install(self) -> None:
        """Install the packages, unless they are installed already.

        :raises ModelFormatError: if that fails.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self._folder / "lock"):
                if not self.is_installed:
                    echo(f"Installing TensorFlow and Keras into {self._folder}, the first time only: {SIZE}")
                    self._install()
        except (InstallFailed, OSError) as error:
            raise ModelFormatError(
                f"TensorFlow cannot be installed into {self._folder}: {error}. It takes a package index "
                "(DIMPLE_PIP_OPTIONS). dimple rescue and dimple prove work without --with-tensorflow, too"
            ) from None

    def _install(self) -> None:
        options, seconds = pip_options(self._settings), self._settings.install_timeout
        shutil.rmtree(self._folder / "venv", ignore_errors=True)  # left by an interrupted installation
        with progress("Installing TensorFlow", None, "steps") as bar:

            def display(line: str) -> None:
                if not line.startswith(ERROR):  # pip finds other versions of the server's packages than it installed
                    bar.note(line[:LONGEST_LINE])
                    bar.advance()

            install(REQUIREMENTS, self._folder / "venv", options, os.environ, seconds, on_line=display)
        self._marker.write_text(self._expected())

    def compute(
        self, kind: str, folder: ModelFolder, signature: Signature, rows: FloatArray, lite: Path | None = None
    ) -> Answers:
        """Compute inputs (N, …) with the program that the files of a model folder belong to.

        :param kind: the kind of the files, of :func:`program_of`.
        :param lite: a file to write with the same network for TensorFlow Lite, for one picture at a time.
        :raises ModelFormatError: if TensorFlow or Keras cannot compute or write it.
        """
        source, output = signature.inputs[0].name, signature.outputs[0].name if signature.outputs else ""
        with tempfile.TemporaryDirectory(prefix="dimple-") as work:
            given, answers = Path(work) / "rows.npy", Path(work) / "answers.npy"
            np.save(given, rows)
            files = (str(folder.weights.absolute()), str(folder.architecture.absolute()) if folder.architecture else "")
            command = [str(self._folder / "venv" / "bin" / "python"), "-I", job.__file__, kind, *files]
            keras = {"KERAS_HOME": work, "KERAS_BACKEND": "tensorflow"}
            environ = {**os.environ, **keras, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
            try:
                done = subprocess.run(
                    [*command, source, output, str(given), str(answers), *([str(lite.absolute())] if lite else [])],
                    capture_output=True,
                    env=environ,
                    timeout=LONGEST_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise ModelFormatError(f"{PROGRAMS[kind]} has not computed it in {LONGEST_SECONDS} seconds") from None
            if done.returncode:
                raise ModelFormatError(f"{PROGRAMS[kind]} cannot compute it: {reason_of(done.stderr)}")
            name, _, version = done.stdout.decode().split("\n")[-2].partition(" ")
            return np.load(answers, allow_pickle=False), Program(name, version)


def program_of(folder: ModelFolder) -> str:
    """Return the kind of a folder's files, of :mod:`app.engines.tensorflow_job`; empty if they are of other programs.

    Keras 1 and Keras over Theano, CNTK or MXNet computed otherwise than Keras does today.
    """
    if folder.h5 is not None and folder.checkpoint is None:
        model = read_h5(folder.h5, folder.architecture)
        if model.keras_version.startswith("3"):
            return "keras"
        known = model.keras_version.startswith("2") and model.backend == "tensorflow"
        return "tf_keras" if known and not (model.theano or model.guessed) else ""
    if folder.graph is None or folder.checkpoint is not None or folder.onnx is not None:
        return ""
    return "saved_model" if folder.graph.is_dir() else GRAPHS.get(folder.graph.suffix.lower(), "")
