"""Conversion in a separate process, so that the server imports neither MXNet nor Keras, and survives a crash in them.

The child reads a pickle of (working folder, model folder, choice, path) from its standard input and leaves the entry in
that path. Its exit code is 0 if the entry is complete, REFUSED if the reference engine rejects the model, and another
one if the conversion failed. It prints OPENED once the reference engine has opened the model: the server never opens a
file on which the child crashed or hung before that.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from app.engines.cache import Entry, Record, key_of, prune, read_entry, write_entry
from app.engines.conversion import missing_reference, reference_kind
from app.engines.converted import check_can_convert, converted_entry
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.utils.error_text import reason_of
from app.utils.files import file_lock, replacing_folder
from app.utils.process import REFUSED, run_module
from app.utils.progress import position, step

log = logging.getLogger(__name__)

OPENED = b"the reference engine has opened it"
OPENING_SECONDS = 180.0
"""Processor time in seconds for opening a model: a damaged file may send a C library into an endless loop."""
LONGEST_SECONDS = 600


class ConversionError(Exception):
    """A failure to build an entry; the next start tries again."""


def entry_of(folder: ModelFolder, choice: str, cache_dir: Path) -> Entry:
    """Return the converted network in a model's own folder, or else its cache entry.

    :raises ConversionError: as :func:`cached_entry`.
    :raises ModelFormatError: as :func:`cached_entry`.
    """
    try:
        if entry := converted_entry(folder, choice, cache_dir):
            return entry
    except OSError as error:
        raise _cache_error(error) from None
    return cached_entry(folder, choice, cache_dir)


def cached_entry(folder: ModelFolder, choice: str, cache_dir: Path) -> Entry:
    """Return a model's cache entry, building it if it is missing or damaged. Other processes wait meanwhile.

    :raises ConversionError: if the entry cannot be built now.
    :raises ModelFormatError: if the reference engine rejects the model, or this installation cannot convert it.
    """
    try:
        kind = reference_kind(folder, choice)
        path = cache_dir / key_of(folder, kind)
        if entry := _settled(path, kind):
            return entry
        check_can_convert(folder, choice)
        cache_dir.mkdir(parents=True, exist_ok=True)
        with file_lock(cache_dir / ".lock"):
            if entry := _settled(path, kind):  # another process was faster
                return entry
            at = position()
            title = f"Converting models, first start only ({at})" if at else "Converting the model to OpenVINO"
            log.info("%s: %s", title, folder.name)
            step("Converting the model")
            _build(folder, choice, path)
            prune(cache_dir, path)
    except OSError as error:
        raise _cache_error(error) from None
    if entry := read_entry(path):
        return entry
    raise ConversionError(f"the cache's entry {path} was damaged as soon as it was written")


def _cache_error(error: OSError) -> ConversionError:
    return ConversionError(f"the cache cannot be used: {error}")


def _settled(path: Path, kind: str) -> Entry | None:
    """Return an entry; None if there is none, or it lacks a proof that is possible by now."""
    entry = read_entry(path)
    return None if entry is not None and entry.record.unproven and not missing_reference(kind) else entry


def _build(folder: ModelFolder, choice: str, path: Path) -> None:
    with replacing_folder(path) as partial:
        _run(folder, choice, partial)


def _run(folder: ModelFolder, choice: str, path: Path) -> None:
    order = (os.getcwd(), folder, choice, path.absolute())
    try:
        done = run_module("app.engines.conversion_process", order, LONGEST_SECONDS)
    except subprocess.TimeoutExpired as expired:
        if OPENED not in (expired.output or b""):
            raise _unsafe(folder, f"takes more than {LONGEST_SECONDS} seconds") from None
        raise ConversionError(f"its conversion took more than {LONGEST_SECONDS} seconds") from None
    reason = reason_of(done.stderr, None)
    if done.returncode < 0 and OPENED not in done.stdout:
        late = done.returncode == -signal.SIGPROF
        crash = f"ends in a crash ({signal.Signals(-done.returncode).name})"
        raise _unsafe(folder, f"takes more than {OPENING_SECONDS:.0f} s of processor time" if late else crash)
    if done.returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL, -signal.SIGBUS):
        shutil.rmtree(path)
        path.mkdir()
        crash = signal.Signals(-done.returncode).name
        write_entry(path, Record(str(folder.path), reason=f"its conversion ends in a crash ({crash})"), None)
    elif done.returncode == REFUSED:
        raise ModelFormatError(reason)
    elif done.returncode:
        raise ConversionError(reason[:300] or f"its conversion ended with the status {done.returncode}")


def _unsafe(folder: ModelFolder, what: str) -> ModelFormatError:
    return ModelFormatError(f"{folder.path} cannot be opened: reading its files {what}. They may be damaged")


def report_opened() -> None:
    """Stop the limit of processor time for opening a model, and print OPENED."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(OPENED.decode(), flush=True)


def main() -> int:
    """Run the conversion that the standard input describes."""
    from app.engines.conversion import build

    working_dir, folder, choice, path = pickle.load(sys.stdin.buffer)
    os.chdir(working_dir)
    signal.setitimer(signal.ITIMER_PROF, OPENING_SECONDS)  # SIGPROF then kills the process
    try:
        build(folder, choice, path, report_opened)
    except ModelFormatError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
