"""Reasons in the errors of libraries and of processes that failed."""

from __future__ import annotations

import re

_NO_REASON = re.compile(
    r"(Check '.*' failed at .*|Exception from \S+|FrontEnd API failed with .*|While validating .*):$"
    r"|Loading input model$|Model wasn't fully converted|Summary:$|Details:$|Not Implemented:$|-- Conversion is failed"
    r"|-- .* with a message:$|\[ONNX Frontend\] Conversion failed|To facilitate the conversion|Cannot fallback"
    r"|==> Context:"
)
"""The lines in the errors of OpenVINO and onnx that say where in their own source something failed, or that it did."""
_NODE = re.compile(r"<Node\((\w+)\): (\S+)>|with friendly_name '([^']+)'")


def reason_of(error: BaseException | bytes, longest: int | None = 300) -> str:
    """Return in one line what a library's error, or a process that failed, gives as its reason.

    It is the last line but for those in which OpenVINO and onnx name places in their source; for an exception with the
    network's node before it, if it names one. Without a line it is the exception's type; empty if a process said
    nothing.

    :param error: an exception, or what a process has written.
    :param longest: the length in characters at which it is cut off; None for any length.
    """
    text = error.decode(errors="replace") if isinstance(error, bytes) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not _NO_REASON.match(line)] or lines[-1:]
    if not lines:
        return "" if isinstance(error, bytes) else type(error).__name__
    nodes = [] if isinstance(error, bytes) else _NODE.findall(text)
    node = " ".join(part for part in nodes[0] if part) + ": " if nodes else ""
    if isinstance(error, LookupError):  # its text is the key alone
        node = f"{type(error).__name__}: "
    return (node + lines[-1].removeprefix("-- "))[:longest]
