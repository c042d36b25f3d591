"""What is deployed follows what fronts need, and outlives their silence."""

from __future__ import annotations

from dataclasses import replace

from app.cluster.claims import FORGET_SECONDS, Claims
from app.cluster.plan import Plan, Scale

OLD = Plan("net", "a" * 64, "/store", "auto")
NEW = replace(OLD, digest="b" * 64)
OTHER = replace(OLD, name="net-2")
LATER = 10 * FORGET_SECONDS


def test_what_a_front_needs_is_wanted_once_for_all_fronts() -> None:
    claims = Claims(0)
    claims.keep("one", [OLD, OTHER], 0)
    claims.keep("two", [OLD], 0)
    assert {plan.key for plan in claims.wanted()} == {OLD.key, OTHER.key}


def test_of_several_numbers_that_counts_which_was_told_last() -> None:
    claims = Claims(0)
    claims.keep("one", [replace(OLD, scale=Scale(4, 4, told=100.0))], 0)
    claims.keep("two", [replace(OLD, scale=Scale(1, 1, told=200.0))], 0)
    claims.keep("three", [replace(OLD, scale=Scale(8, 8))], 0)
    assert claims.wanted()[0].scale.max_workers == 1


def test_of_numbers_that_nobody_told_the_largest_counts() -> None:
    claims = Claims(0)
    claims.keep("one", [replace(OLD, scale=Scale(2, 2))], 0)
    claims.keep("two", [replace(OLD, scale=Scale(8, 8))], 0)
    assert claims.wanted()[0].scale.max_workers == 8


def test_what_the_last_front_gives_back_goes_at_once() -> None:
    claims = Claims(0)
    claims.keep("one", [OLD], 0)
    claims.keep("two", [OLD], 0)
    claims.release("one", OLD.key)
    assert claims.superfluous([OLD.key], 1) == []
    claims.release("two", OLD.key)
    assert claims.superfluous([OLD.key], 1) == [OLD.key]
    assert claims.wanted() == []


def test_what_is_claimed_again_stays() -> None:
    claims = Claims(0)
    claims.keep("one", [OLD], 0)
    claims.release("one", OLD.key)
    claims.keep("two", [OLD], 1)
    assert claims.superfluous([OLD.key], 1) == []


def test_silent_fronts_keep_what_they_had() -> None:
    claims = Claims(0)
    claims.keep("one", [OLD], 0)
    assert claims.superfluous([OLD.key], LATER) == []
    assert [plan.key for plan in claims.wanted()] == [OLD.key]


def test_silent_fronts_lose_a_content_that_others_have_replaced() -> None:
    claims = Claims(0)
    claims.keep("one", [OLD], 0)
    claims.keep("two", [NEW], LATER)
    assert claims.superfluous([OLD.key, NEW.key], LATER) == [OLD.key]
    assert [plan.key for plan in claims.wanted()] == [NEW.key]


def test_a_model_of_a_similar_name_is_another() -> None:
    claims = Claims(0)
    claims.keep("one", [OLD], 0)
    claims.keep("two", [OTHER], LATER)
    assert claims.superfluous([OLD.key, OTHER.key], LATER) == []


def test_a_registrar_that_has_just_begun_waits_for_the_fronts_of_what_it_finds() -> None:
    claims = Claims(LATER)
    claims.keep("two", [NEW], LATER + 1)
    assert claims.superfluous([OLD.key], LATER + 2) == []
    claims.keep("two", [NEW], LATER + FORGET_SECONDS + 1)
    assert claims.superfluous([OLD.key], LATER + FORGET_SECONDS + 2) == [OLD.key]
