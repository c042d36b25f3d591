"""A replica of a model on a node: the same folder, opened by the same engine code, behind Ray Serve's queue."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from ray import serve

from app.engines.base import LoadedEngine
from app.engines.loader import load
from app.engines.ray.artifact_store import fetch
from app.engines.ray.node_config import MODELS, cluster_folder
from app.engines.ray.spec import COMMON_OPTIONS, DEPLOYMENT, DeploymentSpec
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
        path = fetch(digest, store, name, cluster_folder(settings) / MODELS)
        folder = replace(open_model_folder(path), name=name)
        self._opened = load(folder, engine, settings.cache)
        self._selftest = check_selftest(path, self._opened.engine, self._opened.signature)
        self._digest = digest
        self._batch_size = 1
        self._computing = asyncio.Semaphore(cpu_count())
        log.info("%s is computed by %s", name, self._opened.kind)

    def reconfigure(self, options: dict[str, int]) -> None:
        """Change how requests are batched, without a restart."""
        self._batch_size = options["batch_size"]
        self._together.set_max_batch_size(options["batch_size"])
        self._together.set_batch_wait_timeout_s(options["max_batch_delay"] / 1000)

    async def predict(self, batch: FloatArray) -> FloatArray:
        """Compute (N, …) -> (N, classes), alone or in a batch with other requests."""
        if self._batch_size == 1:
            return await self._compute(batch)
        answer: FloatArray = await self._together(batch)
        return answer

    async def describe(self) -> tuple[str, LoadedEngine]:
        """Return the content's digest, and the opened model without its engine."""
        return self._digest, replace(self._opened, engine=None)  # type: ignore[arg-type]

    @serve.batch  # type: ignore[untyped-decorator]
    async def _together(self, batches: list[FloatArray]) -> list[FloatArray]:
        rows = await self._compute(np.concatenate(batches))
        return np.split(rows, np.cumsum([len(batch) for batch in batches])[:-1])

    async def _compute(self, batch: FloatArray) -> FloatArray:
        async with self._computing:
            return await asyncio.to_thread(self._opened.engine.predict, np.array(batch))


def application(plan: DeploymentSpec, **options: Any) -> Any:
    """Return the Ray Serve application of a deployment."""
    deployment = serve.deployment(Replica).options(name=DEPLOYMENT, **COMMON_OPTIONS, **options)
    # Ray Serve restarts the replicas of a redeployed application unless its version is unchanged. A program has no
    # other way to change the number of replicas of a running application.
    deployment._version = plan.key
    return deployment.bind(**_arguments(plan))


def build(arguments: dict[str, str]) -> Any:
    """Return the application that a config file names as ``import_path``; its ``deployments`` set the options."""
    return serve.deployment(Replica).options(name=DEPLOYMENT, **COMMON_OPTIONS).bind(**arguments)


def _arguments(plan: DeploymentSpec) -> dict[str, str]:
    return {name: value for name, value in asdict(plan).items() if name != "scale"}
