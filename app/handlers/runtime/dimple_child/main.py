"""The main program of a handler's process: load the archive, then answer batches until the server hangs up."""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from mms.model_loader import LegacyModelLoader, MmsModelLoader
from mms.service import Service

from dimple_child.answer import answer
from dimple_child.channel import Channel, Message
from dimple_child.compat import install
from dimple_child.limits import allow_processor_time, contain, die_with


def main(descriptor: int, parent: int) -> int:
    """Serve one model.

    :param descriptor: file descriptor of the socket to the server.
    :param parent: process id of the server.
    """
    die_with(parent)
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    message = channel.receive()
    if message is None:
        return 0
    contain(message.header["limits"])
    _set_up(message.header)
    decoding = bool(message.header["decode_input_request"])
    service, report = _load(message.header)
    channel.send(Message(report))
    if service is None:
        return 1
    seconds = int(message.header["limits"]["cpu_seconds"])
    while (message := channel.receive()) is not None:
        if seconds:
            allow_processor_time(seconds)
        channel.send(answer(service, message, decoding))
    return 0


def _set_up(order: dict[str, Any]) -> None:
    """Set up the process as an archive expects it: log, search path, and the names that libraries have dropped."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    install()
    sys.dont_write_bytecode = True  # do not write to the model's folder
    named = order["handler"].partition(":")[0]
    # MMS also puts a name without a folder on the path: the modules of the package svc find one another
    handler_dir = Path(order["model_dir"], named.rpartition("/")[0] if "/" in named else named.removesuffix(".py"))
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    ours = str(Path(__file__).parent.parent)
    first = list(dict.fromkeys([str(handler_dir), *inherited, order["model_dir"], ours]))
    sys.path[:] = first + [entry for entry in sys.path if entry not in first]
    os.environ["PYTHONPATH"] = os.pathsep.join(first)  # for processes that the archive's code starts


def _load(order: dict[str, Any]) -> tuple[Service | None, dict[str, Any]]:
    """Return the service, and the report to the server."""
    loader = LegacyModelLoader if order["legacy"] else MmsModelLoader
    try:
        service = loader(order["manifest"]).load(
            order["model_name"], order["model_dir"], order["handler"], order["gpu_id"], order["batch_size"]
        )
    except Exception as error:
        traceback.print_exc()
        code = 507 if isinstance(error, MemoryError) else 500
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
        return None, {"code": code, "message": text}
    return service, {"code": 200, "message": service.load_warning}
