"""The cost of a request, by its path and its size."""

from __future__ import annotations

import pytest
from flask import Flask

from app.utils.dispatch import Cost
from app.web.request_policy import SHORT_BYTES


@pytest.mark.parametrize(
    ("path", "size", "cost"),
    [
        ("/ping", 0, Cost.SHORT),
        ("/readyz", 0, Cost.SHORT),
        ("/v2/health/ready", 0, Cost.SHORT),
        ("/predictions/smile", 800, Cost.SHORT),
        ("/predict/smile", 800, Cost.SHORT),
        ("/smile/predict", 800, Cost.SHORT),
        ("/models/smile/invoke", 800, Cost.SHORT),
        ("/v2/models/smile/infer", 800, Cost.SHORT),
        ("/v2/models/smile/versions/1.0/infer", 800, Cost.SHORT),
        ("/predict/smile", SHORT_BYTES + 1, Cost.NORMAL),
        ("/predict/imagenet", 800, Cost.WAITS),
        ("/v2/models/imagenet/infer", 800, Cost.WAITS),
        ("/predict/absent", 800, Cost.WAITS),
        ("/invocations", 800, Cost.WAITS),
        ("/file/", 800, Cost.WAITS),
        ("/explain/smile", 800, Cost.WAITS),
        ("/", 0, Cost.NORMAL),
        ("/metrics", 0, Cost.NORMAL),
        ("/models/smile", 0, Cost.NORMAL),
    ],
)
def test_each_request_has_its_cost(app: Flask, path: str, size: int, cost: Cost) -> None:
    assert app.extensions["request_policy"].cost(path, "", size) is cost


def test_the_model_in_the_query_determines_the_cost(app: Flask) -> None:
    policy = app.extensions["request_policy"]
    assert policy.cost("/invocations", "model_name=smile", 800) is Cost.SHORT
    assert policy.cost("/invocations", "model_name=imagenet", 800) is Cost.WAITS
