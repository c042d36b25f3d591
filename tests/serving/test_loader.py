"""The models that a cluster computes."""

from __future__ import annotations

import pytest

from app.serving.loader import on_cluster
from app.settings import Settings


@pytest.mark.parametrize(
    ("settings", "clustered"),
    [
        (Settings(), set()),
        (Settings(engine="ray"), {"smile", "dogcat"}),
        (Settings(cluster="node:8000"), {"smile", "dogcat"}),
        (Settings(cluster="node:8000", cluster_models="dogcat, other"), {"dogcat"}),
        (Settings(cluster="node:8000", cluster_models="none"), set()),
        (Settings(cluster_models="dogcat"), set()),
    ],
)
def test_the_settings_choose_which_models_the_backend_process_computes(settings: Settings, clustered: set[str]) -> None:
    assert {name for name in ("smile", "dogcat") if on_cluster(name, settings)} == clustered
