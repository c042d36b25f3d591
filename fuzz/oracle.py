"""What a reader may do with a file: read it, or refuse it with an error of ``app/errors.py``. Nothing else."""

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

SECONDS = 2.0
"""Of processor time, so that a busy machine makes no findings."""
LONGEST_MESSAGE = 4_200
"""What ``app/errors.py`` allows, and a path."""


@dataclass(frozen=True)
class Fault:
    """What a reader did wrong. ``kind`` is the same for every case that shows the same fault."""

    kind: str
    text: str


def judge(target: Target, path: Path, watch: Watch) -> Fault | None:
    """Let a target read a file.

    :param watch: over the folder of ``path``, the only one that may be written to.
    :returns: None where it did as it should.
    """
    began = time.process_time()
    fault = None
    try:
        with watch:
            target.read(path)
    except DimpleError as error:
        fault = _refused_badly(error, path)
    except BaseException as error:  # what else comes is what is looked for
        fault = _escaped(error)
    took = time.process_time() - began
    if fault is None and watch.seen:
        fault = Fault("touches-" + re.sub(r"[^a-z.]", "", watch.seen[0].split()[0]), f"it did: {watch.seen[0]}")
    if fault is None and took > SECONDS:
        fault = Fault("slow", f"it took {took:.1f} s")
    return fault


def _refused_badly(error: DimpleError, path: Path) -> Fault | None:
    """An error that nobody can be shown, or that hides that the memory ran out."""
    text = str(error).replace(str(path), "")
    place = _place(error)
    if len(text) > LONGEST_MESSAGE:
        return Fault(f"long-message-{place}", f"its message has {len(text):,} characters: {text[:200]}")
    if text != text.encode("utf-8", "replace").decode("utf-8"):
        return Fault(f"unprintable-{place}", f"its message cannot be written as UTF-8: {text[:200]!r}")
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, MemoryError | SystemError):
            return Fault(f"{type(inner).__name__}-{place}", "".join(traceback.format_exception(error)))
        inner = inner.__context__
    return None


def _escaped(error: BaseException) -> Fault:
    return Fault(f"{type(error).__name__}-{_place(error)}", "".join(traceback.format_exception(error))[-6_000:])


def _place(error: BaseException) -> str:
    """Where it was raised: the last line of ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}app{os.sep}" in f.filename]
    frames = frames or traceback.extract_tb(error.__traceback__)[-1:]
    return f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else "nowhere"
