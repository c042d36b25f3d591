"""A replica of a model on a node: the same folder, opened by the same engine code, behind Ray Serve's queue."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.engines.loader import load
from app.engines.ray.artifact_store import fetch
from app.engines.ray.engine import describe, from_npy, to_npy
from app.engines.ray.serve_config import DEPLOYMENT
from app.engines.selftest import check_selftest
from app.formats.folder import open_model_folder
from app.settings import read_settings
from app.types import FloatArray
from app.utils.system import cpu_count

log = logging.getLogger("ray.serve")


class Replica:
    """The class that Ray Serve instantiates. A replica gets no requests before its constructor has returned."""

    def __init__(self, name: str, digest: str, store: str, engine: str) -> None:
        """Fetch the model's folder, check its content, open it, and run its self-test.

        :raises ModelFormatError: if the model cannot be opened or fails its self-test.
        :raises ClusterError: if the store does not return the model.
        """
        settings = read_settings()
        path = fetch(digest, store, name, settings.instance_dir / "cluster" / "models")
        opened = load(replace(open_model_folder(path), name=name), engine, settings.cache)
        check_selftest(path, opened.engine, opened.signature)
        self._engine = opened.engine
        self._description = describe(opened)
        self._batch_size = 1
        self._computing = asyncio.Semaphore(cpu_count())
        log.info("%s is computed by %s", name, opened.kind)

    def reconfigure(self, options: dict[str, int]) -> None:
        """Change how requests are batched, without a restart."""
        self._batch_size = options["batch_size"]
        self._together.set_max_batch_size(options["batch_size"])
        self._together.set_batch_wait_timeout_s(options["max_batch_delay"] / 1000)

    async def __call__(self, request: Request) -> Response:
        """Return the model's description as JSON for GET; for POST, compute an array (NumPy's .npy format)."""
        if request.method != "POST":
            return JSONResponse(self._description)
        try:
            batch = from_npy(await request.body())
            rows = await (self._compute(batch) if self._batch_size == 1 else self._together(batch))
        except Exception as error:  # the caller gets the reason; Ray Serve would answer 500 without one
            log.exception("a request cannot be computed")
            return PlainTextResponse(f"{type(error).__name__}: {error}"[:500], 422)
        return Response(to_npy(rows), media_type="application/octet-stream")

    @serve.batch  # type: ignore[untyped-decorator]
    async def _together(self, batches: list[FloatArray]) -> list[FloatArray]:
        rows = await self._compute(np.concatenate(batches))
        return np.split(rows, np.cumsum([len(batch) for batch in batches])[:-1])

    async def _compute(self, batch: FloatArray) -> FloatArray:
        async with self._computing:
            return await asyncio.to_thread(self._engine.predict, batch)


def build(arguments: dict[str, str]) -> Any:
    """Return the application that the config file names as ``import_path``; its ``deployments`` set more options.

    A replica counts as one core, as a worker does.
    """
    deployment = serve.deployment(Replica).options(
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": 1},
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=20,
        max_constructor_retry_count=2,
    )
    return deployment.bind(**arguments)
