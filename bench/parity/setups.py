"""The configurations under which the two servers are compared, and the checks under each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.parity.check import Check
from bench.parity.checks import (
    configured,
    connections,
    handlers,
    inputs,
    one_port,
    queues,
    registering,
    restart,
    routes,
    startup,
    tls,
)
from bench.parity.peer import Peer

AT_START = ("noop-v0.1", "noop-v1.0")


@dataclass(frozen=True)
class Setup:
    """A configuration.

    :param config: what ``config.properties`` has beside addresses, store and ``max_request_size``.
    :param environ: variables of both servers' environment.
    :param tls: whether both addresses are https.
    :param one_port: whether both addresses are one.
    :param by_environment: whether Dimple's environment variables can say the same.
    :param processes: server processes of Dimple; None leaves it to the command line. Batches, queues and workers are
        compared with several, because all of them together must do what MMS does.
    :param archives: whether the networks are asked, too.
    """

    name: str
    checks: Sequence[Check]
    config: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    one_port: bool = False
    by_environment: bool = False
    processes: int | None = None
    archives: bool = False


SETUPS = (
    Setup(
        "plain",
        [
            *startup.CHECKS,
            *routes.CHECKS,
            *registering.CHECKS,
            *inputs.CHECKS,
            *handlers.CHECKS,
            *connections.CHECKS,
        ],
        {"load_models": ",".join(AT_START)},
        by_environment=True,
        archives=True,
    ),
    Setup("counted-once", [*handlers.LOADING, *queues.CHECKS], by_environment=True, processes=4),
    Setup("configured", configured.CHECKS, configured.CONFIG, configured.ENVIRON, processes=4),
    Setup("restarted", restart.CHECKS, {"load_models": restart.LOAD}),
    Setup("missing-store", startup.WITHOUT_STORE, {"model_store": "gone", "load_models": "ALL"}),
    Setup("one-port", one_port.CHECKS, one_port=True),
    Setup("tls", tls.CHECKS, tls=True),
)


def hide(peer: Peer) -> None:
    """Leave in the store what is loaded at startup: by environment variables, Dimple loads everything that it finds."""
    hidden = peer.home / "hidden"
    shutil.move(peer.store, hidden)
    peer.store.mkdir()
    for name in AT_START:
        shutil.copytree(hidden / name, peer.store / name)


def reveal(peer: Peer) -> None:
    """Restore what :func:`hide` removed, and unregister the models that Dimple includes."""
    hidden = peer.home / "hidden"
    for path in sorted(hidden.iterdir()):
        if not (peer.store / path.name).exists():
            shutil.move(path, peer.store / path.name)
    if peer.kind == "dimple":
        peer.ask("DELETE", "/models/imagenet", management=True)
        # a folder's name is a model's name there, so that the one called noop is to be registered
        peer.ask("DELETE", "/models/noop-v1.0", management=True)
        peer.ask("POST", "/models?url=noop-v1.0&initial_workers=2", management=True)
