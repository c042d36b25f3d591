"""The engine ``ray``, which sends batches to the model's application on a Ray cluster."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import Agreement, LoadedEngine, Parity, check_batch
from app.engines.ray.client import ServeClient, proxies_of, serve_client
from app.engines.ray.serve_config import application_name
from app.errors import ClusterUnavailable, ModelFormatError, ModelUnavailable
from app.formats.folder import digest_of
from app.formats.signature import document_of, signature_of
from app.settings import Settings
from app.types import FloatArray

DESCRIBE_SECONDS = 30.0


def to_npy(array: FloatArray) -> bytes:
    """Return an array in NumPy's .npy format."""
    body = io.BytesIO()
    np.save(body, np.asarray(array, np.float32), allow_pickle=False)
    return body.getvalue()


def from_npy(body: bytes) -> FloatArray:
    """Return the array of a .npy file; another file raises ValueError, OSError or EOFError."""
    return np.asarray(np.load(io.BytesIO(body), allow_pickle=False), np.float32)


class RayEngine:
    """A model that the cluster computes."""

    def __init__(self, client: ServeClient, name: str, route: str, seconds: float) -> None:
        """Use the application at a route.

        :param seconds: timeout of a prediction, everything included.
        """
        self._client, self._name, self._route, self._seconds = client, name, route, seconds
        self.row_shape: tuple[int, ...] = ()

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch, from any thread at any time.

        :param batch: float32, (N, …) in the layout of the network's input, N at least 1.
        :returns: float32, (N, classes), the network's unchanged output.
        :raises ValueError: if the batch has another shape.
        :raises DimpleError: as :meth:`ServeClient.request`.
        """
        check_batch(batch, self.row_shape)
        answer = self._client.request(self._name, self._route, to_npy(batch), self._seconds)
        try:
            return from_npy(answer)
        except (ValueError, OSError, EOFError) as error:
            raise ModelFormatError(f"the cluster's answer for {self._name} is no array: {error}") from None

    def unavailable_reason(self) -> str:
        """Return why the cluster does not compute the model at this moment; empty if it does."""
        return self._client.lost or ("" if self._client.serves(self._route) else _missing(self._route))

    def close(self) -> None:
        """Do nothing: the application belongs to the cluster."""


def open_on_cluster(folder: Path, name: str, seconds: float, settings: Settings) -> LoadedEngine:
    """Open a model folder's application on the cluster.

    :param seconds: timeout of a prediction.
    :raises ClusterUnavailable: if no proxy answers, or the application is not deployed or not ready.
    :raises ModelFormatError: if the folder or the description of the application cannot be read.
    :raises ClusterError: if the setting of the cluster is invalid.
    """
    client, application = serve_client(proxies_of(settings)), application_name(name, digest_of(folder))
    route = f"/{application}"
    if not client.serves(route):
        raise ClusterUnavailable(name, client.lost or _missing(route))
    try:
        answer = client.request(name, route, None, DESCRIBE_SECONDS)
    except ModelUnavailable as error:  # its replicas are starting, or have failed
        reason = error.reason if isinstance(error, ClusterUnavailable) else str(error)
        raise ClusterUnavailable(name, f"no replica of {application} answers: {reason}") from None
    try:
        return _described(json.loads(answer), RayEngine(client, name, route, seconds))
    except (ValueError, LookupError, TypeError) as error:
        raise ModelFormatError(f"the cluster's description of {application} cannot be read: {error!r}") from None


def describe(opened: LoadedEngine) -> dict[str, Any]:
    """Return what a front needs to know of a replica's engine, as JSON."""
    return asdict(replace(opened, engine=None)) | {"signature": document_of(opened.signature)}  # type: ignore[arg-type]


def _described(document: dict[str, Any], engine: RayEngine) -> LoadedEngine:
    """Return an engine with the fields that its replica describes."""
    parity, agreement, labels = (document.pop(key) for key in ("parity", "agreement", "labels"))
    signature = signature_of(document["signature"], Path("the replica's signature"))
    engine.row_shape = signature.inputs[0].shape[1:]
    return LoadedEngine(
        **document | {"engine": engine, "kind": "ray", "signature": signature},
        parity=Parity(**parity) if parity else None,
        agreement=Agreement(**agreement) if agreement else None,
        labels=tuple(labels) if labels else None,
    )


def _missing(route: str) -> str:
    return f"{route[1:]} is not deployed there. Deploy it: dimple cluster config > serve.yaml; serve deploy serve.yaml"
