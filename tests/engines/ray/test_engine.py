"""A model of the cluster, opened by its content and computed through a proxy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.engines.ray.engine import open_on_cluster
from app.errors import ClusterUnavailable, ModelFormatError
from app.settings import Settings
from tests.engines.ray.proxies import Proxy, proxy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    made.mkdir()
    (made / "weights").write_bytes(b"1")
    return made


def settings(server: Proxy) -> Settings:
    return Settings(cluster=server.address)


def test_a_deployed_model_computes_and_gets_its_metadata_from_the_replica(folder: Path) -> None:
    with proxy(folder) as server:
        opened = open_on_cluster(folder, "net", 10.0, settings(server))
        rows = opened.engine.predict(np.array([[[[1], [2]]], [[[3], [4]]]], np.float32))
        np.testing.assert_array_equal(rows, [[3], [7]])
        assert opened.kind == "ray" and opened.labels == ("small", "large")
        assert opened.signature.inputs[0].shape == (0, 1, 2, 1)
        assert opened.parity is not None and opened.parity.reference == "mxnet"
        with pytest.raises(ValueError, match="shape"):
            opened.engine.predict(np.zeros((1, 3), np.float32))


def test_content_that_is_not_deployed_is_an_error_that_says_what_to_do(folder: Path) -> None:
    with proxy(folder) as server:
        open_on_cluster(folder, "net", 10.0, settings(server))
        (folder / "weights").write_bytes(b"2")
        with pytest.raises(ClusterUnavailable, match="serve deploy"):
            open_on_cluster(folder, "net", 10.0, settings(server))


def test_a_replica_may_become_ready_later(folder: Path) -> None:
    with proxy(folder) as server:
        server.answers = [(503, "it failed to deploy")] * 2
        with pytest.raises(ClusterUnavailable, match="failed to deploy"):
            open_on_cluster(folder, "net", 10.0, settings(server))


@pytest.mark.parametrize("change", [{"signature": {}}, {"parity": {"samples": 1}}, {"unknown": 1}])
def test_a_replica_with_a_description_of_another_kind_is_refused(folder: Path, change: dict[str, object]) -> None:
    with proxy(folder) as server:
        server.description |= change
        with pytest.raises(ModelFormatError):
            open_on_cluster(folder, "net", 10.0, settings(server))


def test_a_response_that_is_not_an_array_is_an_error_of_the_model(folder: Path) -> None:
    with proxy(folder) as server:
        opened = open_on_cluster(folder, "net", 10.0, settings(server))
        server.answers = [(200, "hello")]
        with pytest.raises(ModelFormatError, match="no array"):
            opened.engine.predict(np.zeros((1, 1, 2, 1), np.float32))
