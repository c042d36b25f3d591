"""Parts of error texts: the reasons in errors of libraries and failed processes, and long lists of names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NO_REASON = re.compile(
    r"(Check '.*' failed at .*|Exception from \S+|FrontEnd API failed with .*|While validating .*):$"
    r"|Loading input model$|Model wasn't fully converted|Summary:$|Details:$|Not Implemented:$|-- Conversion is failed"
    r"|-- .* with a message:$|\[ONNX Frontend\] Conversion failed|To facilitate the conversion|Cannot fallback"
    r"|==> Context:"
)
"""Pattern of the lines in errors of OpenVINO and onnx that only give a place in their source, or report a failure
without a reason."""
_NODE = re.compile(r"<Node\((\w+)\): (\S+)>|with friendly_name '([^']+)'")


def listed(names: Sequence[str], most: int) -> str:
    """Return the first ``most`` names and the number of the others: ``a, b and 1,204 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def reason_of(error: BaseException | bytes, longest: int | None = 300) -> str:
    """Return the reason in a library's error or a failed process's output, in one line.

    This is the last line that is not a place in the source of OpenVINO or onnx. For an exception, the network's node
    comes first if the error names it. For an empty text, this is the exception's type, or empty for a process.

    :param error: an exception, or the output of a process.
    :param longest: maximum length in characters; None for any length.
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
