"""A registration's numbers mean the same in Ray Serve's words."""

from __future__ import annotations

from dataclasses import replace

from app.engines.ray.control import application_of
from app.engines.ray.spec import FORGET_SECONDS, DeploymentSpec, Leases, Scale, options_of

OLD = DeploymentSpec("net", "a" * 64, "/store", "auto")
NEW = replace(OLD, digest="b" * 64)
OTHER = replace(OLD, name="net-2")
LATER = 10 * FORGET_SECONDS


def test_what_a_front_needs_is_wanted_once_for_all_fronts() -> None:
    claims = Leases(0)
    claims.renew("one", [OLD, OTHER], 0)
    claims.renew("two", [OLD], 0)
    assert {plan.key for plan in claims.required()} == {OLD.key, OTHER.key}


def test_of_several_numbers_that_counts_which_was_told_last() -> None:
    claims = Leases(0)
    claims.renew("one", [replace(OLD, scale=Scale(4, 4, told=100.0))], 0)
    claims.renew("two", [replace(OLD, scale=Scale(1, 1, told=200.0))], 0)
    claims.renew("three", [replace(OLD, scale=Scale(8, 8))], 0)
    assert claims.required()[0].scale.max_workers == 1


def test_of_numbers_that_nobody_told_the_largest_counts() -> None:
    claims = Leases(0)
    claims.renew("one", [replace(OLD, scale=Scale(2, 2))], 0)
    claims.renew("two", [replace(OLD, scale=Scale(8, 8))], 0)
    assert claims.required()[0].scale.max_workers == 8


def test_what_the_last_front_gives_back_goes_at_once() -> None:
    claims = Leases(0)
    claims.renew("one", [OLD], 0)
    claims.renew("two", [OLD], 0)
    claims.release("one", OLD.key)
    assert claims.superfluous([OLD.key], 1) == []
    claims.release("two", OLD.key)
    assert claims.superfluous([OLD.key], 1) == [OLD.key]
    assert claims.required() == []


def test_what_is_claimed_again_stays() -> None:
    claims = Leases(0)
    claims.renew("one", [OLD], 0)
    claims.release("one", OLD.key)
    claims.renew("two", [OLD], 1)
    assert claims.superfluous([OLD.key], 1) == []


def test_silent_fronts_keep_what_they_had() -> None:
    claims = Leases(0)
    claims.renew("one", [OLD], 0)
    assert claims.superfluous([OLD.key], LATER) == []
    assert [plan.key for plan in claims.required()] == [OLD.key]


def test_silent_fronts_lose_a_content_that_others_have_replaced() -> None:
    claims = Leases(0)
    claims.renew("one", [OLD], 0)
    claims.renew("two", [NEW], LATER)
    assert claims.superfluous([OLD.key, NEW.key], LATER) == [OLD.key]
    assert [plan.key for plan in claims.required()] == [NEW.key]


def test_a_model_of_a_similar_name_is_another() -> None:
    claims = Leases(0)
    claims.renew("one", [OLD], 0)
    claims.renew("two", [OTHER], LATER)
    assert claims.superfluous([OLD.key, OTHER.key], LATER) == []


def test_a_registrar_that_has_just_begun_waits_for_the_fronts_of_what_it_finds() -> None:
    claims = Leases(LATER)
    claims.renew("two", [NEW], LATER + 1)
    assert claims.superfluous([OLD.key], LATER + 2) == []
    claims.renew("two", [NEW], LATER + FORGET_SECONDS + 1)
    assert claims.superfluous([OLD.key], LATER + FORGET_SECONDS + 2) == [OLD.key]


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
    plan = DeploymentSpec("net", "0123456789abcdef" * 4, "s3://bucket/models", "auto", Scale(2, 2, batch_size=4))
    told = application_of(plan)
    assert told["name"] == "declared-net-auto-0123456789abcdef"
    assert told["args"] == {"name": "net", "digest": plan.digest, "store": "s3://bucket/models", "engine": "auto"}
    assert told["deployments"] == [{"name": "model", **options_of(plan.scale)}]


def test_another_content_or_engine_is_another_deployment() -> None:
    keys = {DeploymentSpec("net", digit * 64, "/store", engine).key for digit in "ab" for engine in ("auto", "mxnet")}
    assert len(keys) == 4
