"""A registration's numbers mean the same in Ray Serve's words."""

from __future__ import annotations

from app.cluster.plan import Plan, Scale, options_of
from app.cluster.serve_config import application_of


def test_equal_numbers_of_workers_are_so_many_replicas() -> None:
    options = options_of(Scale(min_workers=3, max_workers=3))
    assert options["num_replicas"] == 3 and "autoscaling_config" not in options


def test_a_range_of_workers_is_scaled_automatically() -> None:
    options = options_of(Scale(min_workers=1, max_workers=4))
    assert (options["autoscaling_config"]["min_replicas"], options["autoscaling_config"]["max_replicas"]) == (1, 4)
    assert "num_replicas" not in options


def test_batches_and_queue_are_those_of_the_registration() -> None:
    options = options_of(Scale(batch_size=8, max_batch_delay=50, waiting=17))
    assert options["user_config"] == {"batch_size": 8, "max_batch_delay": 50}
    assert options["max_queued_requests"] == 17
    assert options["max_ongoing_requests"] == 16  # one batch is computed while the next comes together


def test_a_config_file_says_the_same_under_a_name_that_fronts_know() -> None:
    plan = Plan("net", "0123456789abcdef" * 4, "s3://bucket/models", "auto", Scale(2, 2, batch_size=4))
    told = application_of(plan)
    assert told["name"] == "declared-net-auto-0123456789abcdef"
    assert told["args"] == {"name": "net", "digest": plan.digest, "store": "s3://bucket/models", "engine": "auto"}
    assert told["deployments"] == [{"name": "model", **options_of(plan.scale)}]


def test_another_content_or_engine_is_another_deployment() -> None:
    keys = {Plan("net", digit * 64, "/store", engine).key for digit in "ab" for engine in ("auto", "mxnet")}
    assert len(keys) == 4
