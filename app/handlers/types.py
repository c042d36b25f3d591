"""What goes to a handler, what comes back, and what its workers are doing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

INTERNAL = "InternalServerException"
UNAVAILABLE = "ServiceUnavailableException"


@dataclass(frozen=True)
class HandlerLimits:
    """What a handler's process may take. Of everything, 0 sets no limit; ``nice`` is added to the server's own.

    :param memory_bytes: private memory that it can write to: the heap and the threads' stacks (``RLIMIT_DATA``).
        Address space (``RLIMIT_AS``) would count what MXNet and OpenVINO reserve and never use.
    :param cpu_seconds: processor time of all its threads together, for one batch; loading does not count.
    :param open_files: descriptors that it may have open at once.
    :param file_bytes: length of a file that it writes.
    """

    memory_bytes: int = 0
    cpu_seconds: int = 0
    open_files: int = 0
    file_bytes: int = 0
    nice: int = 0


@dataclass(frozen=True)
class HandlerSpec:
    """How a model's code is run. The defaults are Multi Model Server's.

    :param model_name: the name under which the model is registered; the manifest may have another.
    :param model_dir: the unpacked archive, the folder in which the code runs.
    :param handler: ``module[:function]``; of an archive of 0.x, the file with the service.
    :param manifest: the archive's manifest; None has the child look for it in the folder.
    :param response_timeout: seconds that a batch may take; after them the process is killed.
    :param decode_input_request: whether JSON and text reach the handler decoded, not as bytes.
    :param number_of_gpu: GPUs that workers are given in turn; 0 has them compute on the CPU.
    :param shown_variables: patterns, with commas between, of environment variables that the handler gets beside the
        usual ones (``app/handlers/environment.py``).
    :param hidden_variables: regular expression; environment variables whose whole name it matches are kept from the
        handler all the same.
    :param legacy: whether the archive is of version 0.x.
    :param max_response_bytes: most bytes that a batch's answers may have together; a process that sends more is killed.
    :param python: what runs it: the server's own Python, or that of the archive's environment.
    :param home: its home folder; None gives it none.
    """

    model_name: str
    model_dir: Path
    handler: str
    manifest: dict[str, Any] | None = None
    batch_size: int = 1
    response_timeout: float = 7200.0
    decode_input_request: bool = True
    number_of_gpu: int = 0
    shown_variables: str = ""
    hidden_variables: str = ""
    legacy: bool = False
    max_response_bytes: int = 2**30
    limits: HandlerLimits = HandlerLimits()
    python: Path = Path(sys.executable)
    home: Path | None = None


@dataclass(frozen=True)
class Field:
    """A named part of a request.

    :param is_file: whether the content type decides what the handler gets: true of a whole body (named ``body``) and of
        a form's file, false of a form's plain field and of a query parameter, which stay bytes.
    """

    name: str
    content_type: str
    data: bytes
    is_file: bool


@dataclass(frozen=True)
class HandlerRequest:
    """A request for a handler. Of several fields with one name, the last one counts."""

    request_id: str
    fields: tuple[Field, ...]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HandlerAnswer:
    """What the client is to get.

    :param phrase: the handler's words beside the status; mostly empty.
    :param headers: those that the handler set, without the content type.
    :param content_type: None where the handler set none.
    :param error: type and message of the error that the server is to write; ``body`` is empty then.
    """

    status: int
    phrase: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    body: bytes = b""
    error: tuple[str, str] | None = None


class WorkerState(StrEnum):
    """LOADING also stands for a worker that waits to start again after its process has died; FAILED waits to try again
    after the model could not be loaded; UNLOADING finishes its batch, then ends."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


@dataclass(frozen=True)
class WorkerStatus:
    """A worker at one moment.

    :param pid: of its process; None between two.
    :param started: when that process, or the last one, was started.
    :param memory_bytes: the process's resident memory; 0 where it is not known.
    :param restarts: how often a process had to be started again.
    :param last_error: why the last process ended or the model could not be loaded; empty where nothing went wrong.
    :param gpu_id: the GPU that it was given; None computes on the CPU.
    """

    id: str
    pid: int | None
    started: datetime | None
    state: WorkerState
    memory_bytes: int
    restarts: int
    last_error: str
    gpu_id: int | None = None


def worker_died() -> HandlerAnswer:
    """Return the answer to those whose worker died, or was killed because it took too long."""
    return HandlerAnswer(500, error=(INTERNAL, "Worker died."))


def no_worker(model_name: str, cause: str = "") -> HandlerAnswer:
    """Return the answer if no worker can serve the model: Multi Model Server's text, and the cause if there is one."""
    message = f"No worker is available to serve request for model: {model_name}. Consider increasing job queue size."
    message += f" Its worker could not start: {cause.rstrip('.')}." if cause else ""
    return HandlerAnswer(503, error=(UNAVAILABLE, message))
