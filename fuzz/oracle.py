"""The oracle: a reader must read a file, or refuse it with an error of ``app/errors.py``."""

from __future__ import annotations

import os
import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from app.errors import DimpleError
from fuzz.target import Target
from fuzz.watch import Watch

MAX_CPU_SECONDS = 2.0
"""Processor time, so that a busy machine causes no findings."""
MAX_MESSAGE_LENGTH = 4_200
"""The limit of ``app/errors.py``, and space for a path."""


@dataclass(frozen=True)
class Fault:
    """A violation by a reader; its ``kind`` is the same for all cases that show the same fault."""

    kind: str
    text: str


def judge(target: Target, path: Path, watch: Watch) -> Fault | None:
    """Read a file with a target, and return the fault that this shows, if any.

    :param watch: of the folder of ``path``, the only folder that may be written to.
    """
    start = time.process_time()
    fault = None
    try:
        with watch:
            target.read(path)
    except DimpleError as error:
        fault = _check_refusal(error, path)
    except BaseException as error:  # SystemExit and KeyboardInterrupt would be faults, too
        fault = Fault(f"{type(error).__name__}-{_place(error)}", "".join(traceback.format_exception(error))[-6_000:])
    seconds = time.process_time() - start
    if fault is None and watch.violations:
        violation = watch.violations[0]
        fault = Fault("touches-" + re.sub(r"[^a-z.]", "", violation.split()[0]), f"it did: {violation}")
    if fault is None and seconds > MAX_CPU_SECONDS:
        fault = Fault("slow", f"it took {seconds:.1f} s")
    return fault


def _check_refusal(error: DimpleError, path: Path) -> Fault | None:
    """Return a fault if the message cannot be displayed, or hides that the memory was exhausted."""
    text = str(error).replace(str(path), "")
    place = _place(error)
    if len(text) > MAX_MESSAGE_LENGTH:
        return Fault(f"long-message-{place}", f"its message has {len(text):,} characters: {text[:200]}")
    if text != text.encode("utf-8", "replace").decode("utf-8"):
        return Fault(f"unprintable-{place}", f"its message cannot be written as UTF-8: {text[:200]!r}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | SystemError):
            return Fault(f"{type(cause).__name__}-{place}", "".join(traceback.format_exception(error)))
        cause = cause.__context__
    return None


def _place(error: BaseException) -> str:
    """Return the function of the innermost frame in ``app/``, or else of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if f"{os.sep}app{os.sep}" in frame.filename] or frames[-1:]
    return f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else "nowhere"
