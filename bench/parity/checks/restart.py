"""The registrations after a restart, and the handling of bad models at startup."""

from __future__ import annotations

from bench.parity.answer import Answer, of_document
from bench.parity.check import manage, predict, probe
from bench.parity.peer import Peer

LOAD = "mine=noop-zipped.mar,noop-v0.1,nothing-there.mar,init-error,noop-zipped.mar"


def restart(peer: Peer) -> Answer:
    """Stop the server and start it again."""
    peer.stop()
    peer.start()
    return of_document("restarted")


CHECKS = [
    manage("restart.loaded", "GET /models", 200, "mine"),
    predict("restart.named", "POST /predictions/mine", 200, "OK", b"x"),
    predict("restart.stem", "POST /predictions/noop_zipped", 200, "OK", b"x"),
    predict("restart.ping-with-one-broken", "GET /ping", 200, masked=("status",)),
    manage("restart.register", "POST /models?url=echo&initial_workers=1", 200, "Workers scaled"),
    manage("restart.unregister", "DELETE /models/noop_v0.1", 200, "unregistered"),
    probe("restart.restart", "stop, start", restart),
    manage("restart.list-after", "GET /models", 200, "noop_v0.1"),
    predict("restart.predict-after", "POST /predictions/echo", 404, "Model not found: echo", b"x"),
    predict("restart.predict-unregistered-after", "POST /predictions/noop_v0.1", 200, "OK", b"x"),
]
