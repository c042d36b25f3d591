"""Count what each model is asked, at every route that asks one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from flask import Flask, Response, current_app, g, request

from app.errors import BadInput, ModelNotFound
from app.serving.counts import Counts
from app.web.context import dimple

ROUTES = ("predict.predict", "mms.predictions", "mms.predict", "mms.invoke_model")
"""Those whose address names the model; the others say it themselves, with :func:`counted`."""
KEY = "dimple.counts"


def count_requests(app: Flask) -> None:
    """Count from now on."""
    app.extensions[KEY] = Counts(app.extensions["dimple"].settings.instance_dir / "counts")
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_lost)


def counts() -> Counts:
    """Those of the application that serves the present request."""
    found: Counts = current_app.extensions[KEY]
    return found


@contextlib.contextmanager
def counted(name: str) -> Iterator[None]:
    """Count one request to a model. What the client did wrong is no failure of the model's."""
    if not _is_known(name):
        yield
        return
    started, failed = time.perf_counter(), True
    counts().enter(name)
    try:
        yield
        failed = False
    except BadInput:
        failed = False
        raise
    finally:
        counts().leave(name, failed, time.perf_counter() - started)


def _begin() -> None:
    name = (request.view_args or {}).get("model")
    if request.endpoint in ROUTES and request.method != "OPTIONS" and name and _is_known(name):
        g.counted = (name, time.perf_counter())
        counts().enter(name)


def _finish(response: Response) -> Response:
    if counting := g.pop("counted", None):
        counts().leave(counting[0], response.status_code >= 500, time.perf_counter() - counting[1])
    return response


def _lost(error: BaseException | None) -> None:
    """A request that had no response: its worker is told to go."""
    if counting := g.pop("counted", None):
        counts().leave(counting[0], True, time.perf_counter() - counting[1])


def _is_known(name: str) -> bool:
    try:
        dimple().registry.entry(name)
    except ModelNotFound:
        return False
    return True
