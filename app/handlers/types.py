"""Requests to handlers, their answers, and the status of their workers."""

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
    """The resource limits of a handler's process. 0 means no limit; ``nice`` is added to the server's own.

    :param memory_bytes: private writable memory: the heap and the threads' stacks (``RLIMIT_DATA``). Address space
        (``RLIMIT_AS``) would include what MXNet and OpenVINO reserve and never use.
    :param cpu_seconds: processor time of all threads together for one batch; loading does not count.
    :param open_files: number of open file descriptors.
    :param file_bytes: length of a written file.
    """

    memory_bytes: int = 0
    cpu_seconds: int = 0
    open_files: int = 0
    file_bytes: int = 0
    nice: int = 0


@dataclass(frozen=True)
class HandlerSpec:
    """The parameters for running a model's code. The defaults are Multi Model Server's.

    :param model_name: name under which the model is registered; the manifest may contain another.
    :param model_dir: the unpacked archive, the folder in which the code runs.
    :param handler: ``module[:function]``; for an archive of 0.x, the file of the service.
    :param manifest: the archive's manifest; if None, the child looks for it in the folder.
    :param response_timeout: timeout of a batch in seconds, after which the process is killed.
    :param decode_input_request: whether JSON and text reach the handler decoded, not as bytes.
    :param number_of_gpu: number of GPUs that workers use in turn; for 0 they compute on the CPU.
    :param passed_variables: comma-separated patterns of environment variables that the handler gets in addition to the
        usual ones (``app/handlers/environment.py``).
    :param hidden_variables: regular expression; environment variables whose whole name it matches are always hidden
        from the handler.
    :param legacy: whether the archive is of version 0.x.
    :param max_response_bytes: maximum bytes of a batch's answers together; a process that sends more is killed.
    :param python: the Python interpreter: the server's own, or the one of the archive's environment.
    :param home: home folder; None for no home.
    """

    model_name: str
    model_dir: Path
    handler: str
    manifest: dict[str, Any] | None = None
    batch_size: int = 1
    response_timeout: float = 7200.0
    decode_input_request: bool = True
    number_of_gpu: int = 0
    passed_variables: str = ""
    hidden_variables: str = ""
    legacy: bool = False
    max_response_bytes: int = 2**30
    limits: HandlerLimits = HandlerLimits()
    python: Path = Path(sys.executable)
    home: Path | None = None


@dataclass(frozen=True)
class Field:
    """A named part of a request.

    :param is_file: whether the content type decides how the handler gets the data: true for a whole body (named
        ``body``) and a form's file; false for a form's plain field and a query parameter, which stay bytes.
    """

    name: str
    content_type: str
    data: bytes
    is_file: bool


@dataclass(frozen=True)
class HandlerRequest:
    """A request for a handler. If several fields have the same name, the last one counts."""

    request_id: str
    fields: tuple[Field, ...]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HandlerAnswer:
    """A handler's answer to a request.

    :param phrase: the handler's reason phrase of the status; mostly empty.
    :param headers: headers that the handler set, without the content type.
    :param content_type: None if the handler set none.
    :param error: type and message of an error that the server formats; ``body`` is empty then.
    """

    status: int
    phrase: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    body: bytes = b""
    error: tuple[str, str] | None = None


class WorkerState(StrEnum):
    """The state of a worker.

    LOADING includes a worker that waits to restart after its process died. FAILED waits to retry after the model failed
    to load. UNLOADING finishes its batch, then ends.
    """

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


@dataclass(frozen=True)
class WorkerStatus:
    """The status of a worker at one moment.

    :param pid: process id; None between two processes.
    :param started: start time of the current or last process.
    :param memory_bytes: resident memory of the process; 0 if unknown.
    :param last_error: reason of the last process's end, or of the failure to load the model; empty without errors.
    :param gpu_id: the worker's GPU; None for the CPU.
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
    """Return the answer for requests whose worker died, or was killed at its timeout."""
    return HandlerAnswer(500, error=(INTERNAL, "Worker died."))


def no_worker(model_name: str, cause: str = "") -> HandlerAnswer:
    """Return the answer if no worker can serve the model: Multi Model Server's text, and the cause if there is one."""
    message = f"No worker is available to serve request for model: {model_name}. Consider increasing job queue size."
    message += f" Its worker could not start: {cause.rstrip('.')}." if cause else ""
    return HandlerAnswer(503, error=(UNAVAILABLE, message))
