"""The comparison of answers as a client would see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.parity.answer import Answer
from bench.parity.compare import ABSENT, differences


def answer_with(body: bytes = b"", status: int = 200, reason: str = "OK", **headers: str) -> Answer:
    return Answer(status, reason, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def found(mms: Any, dimple: Any, **how: Any) -> list[tuple[str, str, str]]:
    """Return the differences of two JSON bodies."""
    answers = [answer_with(json.dumps(document).encode()) for document in (mms, dimple)]
    return [
        (difference.aspect, difference.mms, difference.dimple) for difference in differences("a.check", *answers, **how)
    ]


def test_equal_answers_do_not_differ() -> None:
    answer = answer_with(b'{"a": [1, 2.5, null]}', content_type="application/json", content_length="21")
    assert differences("a.check", answer, answer) == []


def test_a_different_status_is_reported() -> None:
    (one,) = differences("a.check", answer_with(status=200), answer_with(status=202))
    assert (one.check, one.aspect, one.mms, one.dimple) == ("a.check", "status", "200", "202")


def test_the_case_of_a_reason_phrase_is_ignored() -> None:
    assert (
        differences("a", answer_with(status=404, reason="Not Found"), answer_with(status=404, reason="NOT FOUND")) == []
    )
    assert len(differences("a", answer_with(reason=""), answer_with(reason="OK"))) == 1


def test_a_header_that_one_server_lacks_is_reported() -> None:
    (one,) = differences("a", answer_with(retry_after="1"), answer_with())
    assert (one.aspect, one.mms, one.dimple) == ("header retry-after", "1", ABSENT)


def test_two_fresh_request_ids_are_equal_and_a_counter_is_not_an_id() -> None:
    first, second = "5a2c9f10-7b11-4f6e-9c3d-0123456789ab", "16fd2706-8baf-433b-82eb-8c7fada847da"
    assert differences("a", answer_with(x_request_id=first), answer_with(x_request_id=second)) == []
    (one,) = differences("a", answer_with(x_request_id=first), answer_with(x_request_id="17"))
    assert (one.mms, one.dimple) == ("a uuid4", "17")


def test_a_content_length_is_compared_with_the_received_body() -> None:
    assert [
        difference.aspect
        for difference in differences(
            "a", answer_with(b"abc", content_length="3"), answer_with(b"abcd", content_length="4")
        )
    ] == ["body"]
    (one,) = differences("a", answer_with(b"abc", content_length="3"), answer_with(b"abc", content_length="5"))
    assert (one.aspect, one.mms) == ("header content-length", "right")


@pytest.mark.parametrize(("apart", "count"), [(0.00009, 0), (0.00011, 1)])
def test_probabilities_may_differ_by_a_ten_thousandth(apart: float, count: int) -> None:
    assert len(found([{"class": "cat", "probability": 0.5}], [{"class": "cat", "probability": 0.5 + apart}])) == count


def test_the_order_of_classes_counts() -> None:
    assert [item[0] for item in found([{"class": "cat"}, {"class": "dog"}], [{"class": "dog"}, {"class": "cat"}])] == [
        "body.0.class",
        "body.1.class",
    ]


@pytest.mark.parametrize(("mms", "dimple"), [(1, True), (1, 1.0), (0, None), ("1", 1), ([], {})])
def test_values_of_two_types_differ(mms: Any, dimple: Any) -> None:
    assert len(found({"a": mms}, {"a": dimple})) == 1


def test_two_infinities_or_nans_are_equal() -> None:
    assert found([float("nan"), float("inf")], [float("nan"), float("inf")]) == []


def test_keys_that_one_side_lacks_are_reported_with_their_path() -> None:
    assert found({"models": [{"name": "a", "url": "u"}]}, {"models": [{"name": "a", "more": 1}]}) == [
        ("body.models.0.url", "'u'", ABSENT),
        ("body.models.0.more", ABSENT, "1"),
    ]


def test_lists_of_different_lengths_are_compared_up_to_the_shorter() -> None:
    assert found({"a": [1, 2, 3]}, {"a": [1, 5]}) == [("body.a length", "3", "2"), ("body.a.1", "2", "5")]


def test_the_order_of_keys_is_reported_if_nothing_else_differs() -> None:
    assert found({"a": 1, "b": 2}, {"b": 2, "a": 1}) == [("body order", "{a, b}", "{b, a}")]


def test_a_masked_value_may_be_any_value_of_its_type() -> None:
    mms, dimple = ({"workers": [{"id": text, "memory": 5}]} for text in ("9000-aa", "9001-bb"))
    assert found(mms, dimple, masked=("workers.*.id",)) == []
    assert found(mms, {"workers": [{"id": 7, "memory": 5}]}, masked=("workers.*.id",)) == [
        ("body.workers.0.id", "'(str)'", "'(int)'")
    ]
    assert [item[0] for item in found(mms, dimple, masked=("workers.*.memory",))] == ["body.workers.0.id"]


def test_an_unordered_list_is_compared_without_its_order() -> None:
    assert found({"a": [1, 2]}, {"a": [2, 1]}, unordered=("a",)) == []
    assert found({"a": [1, 2]}, {"a": [2, 3]}, unordered=("a",)) != []


def test_equal_json_in_different_bytes_differs_in_layout() -> None:
    (one,) = differences("a", answer_with(b'{"a": "\\u003c"}'), answer_with(b'{"a": "<"}'))
    assert one.aspect == "body layout"


def test_bodies_that_are_not_json_are_compared_byte_by_byte() -> None:
    assert differences("a", answer_with(b"\xff\x00"), answer_with(b"\xff\x00")) == []
    (one,) = differences("a", answer_with(b"OK"), answer_with(b"OK\n"))
    assert (one.aspect, one.mms, one.dimple) == ("body", "OK", "OK\n")


def test_a_long_body_is_shown_with_its_length() -> None:
    (one,) = differences("a", answer_with(b"x" * 5000), answer_with(b"y"))
    assert one.mms.endswith("… (5,000 characters)")
