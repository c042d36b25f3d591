"""JSON and base64 as clients send them, and bombs of both. The standard library defines what JSON means."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.json import LONG_LIST, parse_json
from app.web.values import NumberList, decode_base64

SIZE = 2**22
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(st.just([0.5] * LONG_LIST), max_size=2)
    ),
    max_leaves=20,
)


def plain(document: Any) -> Any:
    """Return what the standard library parses: long lists as lists."""
    if isinstance(document, NumberList):
        return json.loads(bytes(document.text))
    if isinstance(document, list):
        return [plain(item) for item in document]
    if isinstance(document, dict):
        return {name: plain(item) for name, item in document.items()}
    return document


@given(VALUES, st.sampled_from([None, 0, 3]), st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_json_is_parsed_as_by_the_standard_library(document: Any, indent: int | None, ascii: bool, mark: bytes) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii).encode(errors="replace")
    assert plain(parse_json(mark + text, 100)) == json.loads(text)


@given(st.binary())
def test_json_refused_by_the_standard_library_is_refused(data: bytes) -> None:
    try:
        expected = json.loads(data.decode(), parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        with pytest.raises(ValueError):
            parse_json(data, 100)
    else:
        assert plain(parse_json(data, 100)) == expected


@pytest.mark.parametrize("shape", [(5000,), (1, 5000), (50, 100), (1000, 1), (2, 3, 20, 20), (4, 1, 1, 500)])
def test_a_long_list_has_the_shape_and_values_of_its_array(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = parse_json(json.dumps({"data": values.tolist()}).encode(), 100)["data"]
    assert found.shape() == shape
    read = found.read(shape, lambda numbers, _: np.array(numbers, np.float64))
    assert (read == values).all()


ROW = [0] * 600


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ROW, ROW[1:]]),
        json.dumps([ROW, ROW, [ROW]]),
        json.dumps([[ROW], [ROW, ROW]]),
        json.dumps([ROW, 1]),
        json.dumps([ROW])[:-1] + ",]",
        json.dumps(ROW * 2)[:-1] + ",,1]",
        json.dumps(ROW * 2)[:-1] + " 1]",
        json.dumps(ROW * 2)[:-1] + ",01]",
        json.dumps(ROW * 2)[:-1] + ",.5]",
        json.dumps(ROW * 2)[:-1] + ",+1]",
        json.dumps(ROW * 2)[:-1] + ",1-1]",
        json.dumps([ROW, ROW])[:-1] + "5]",
    ],
)
def test_a_ragged_or_invalid_long_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        found = parse_json(text.encode(), 100)
        found.read(found.shape(), lambda numbers, _: np.array(numbers))


def filled(unit: bytes) -> bytes:
    return unit * (SIZE // len(unit))


BOMBS = {
    "small numbers": b"[" + filled(b"1,") + b"1]",
    "rows of one": b"[" + filled(b"[1],") + b"[1]]",
    "empty lists": b"[" + filled(b"[],") + b"[]]",
    "empty objects": b"[" + filled(b"{},") + b"{}]",
    "short texts": b"[" + filled(b'"ab",') + b'""]',
    "truths": b"[" + filled(b"true,") + b"true]",
    "truths and numbers": b"[" + filled(b"1,true,") + b"true]",
    "brackets": filled(b"["),
    "brackets, closed": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "quotes": filled(b'"'),
    "escaped quotes": b'"' + filled(b'\\"') + b'"',
    "backslashes": b'"' + filled(b"\\\\") + b'"',
    "a wide character": b'"' + filled(b"a") + "\N{GRINNING FACE}".encode() + b'"',
    "a wide character, escaped": b'"' + filled(b"a") + b'\\ud83d\\ude00"',
    "keys": b"{" + filled(b'"a":1,') + b'"a":1}',
    "lists just too short": filled(b"[" + b"1," * 490 + b"1],"),
    "lists that never close": filled(b"[" * 990 + b"t"),
    "space": filled(b" "),
    "one long text": b'["' + filled(b"A") + b'"]',
}


@pytest.mark.parametrize("name", BOMBS)
def test_parsing_json_takes_memory_and_time_in_proportion_to_its_length(name: str) -> None:
    data = BOMBS[name]
    started = time.process_time()
    tracemalloc.start()
    try:
        found = parse_json(data, 100)
        if isinstance(found, NumberList):
            found.shape()
    except ValueError as error:
        assert len(str(error)) < 200  # the reason, not the data
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 3 * len(data)  # beside the data themselves
    assert time.process_time() - started < 30  # tracing included, which makes 5 of 0.3


PICTURE = bytes(range(256)) * 3 + b"\xfb\xff"  # two bytes beyond threes: one sign of padding; with - and _ for URLs
TEXT = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        base64.encodebytes(PICTURE).decode(),
        base64.encodebytes(PICTURE).decode().replace("\n", "\r\n"),
        TEXT + "\n",
        TEXT.rstrip("=") + "=" * 200_000 + "\r\n",
        TEXT.encode(),
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(PICTURE).decode(),
        base64.urlsafe_b64encode(PICTURE).decode().rstrip("="),
        TEXT.replace("+", " "),
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/png;charset=utf-8;BASE64,{TEXT}",
    ],
)
def test_common_variants_of_base64_are_decoded(text: str) -> None:
    assert decode_base64(text) == PICTURE


@given(st.binary(max_size=300))
def test_base64_written_by_the_standard_library_is_decoded(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text", ["a", "*", "é", "QUJD=QUJD", "data:image/png,QUJD", "data:" + "x" * 1000 + ";base64,QUJD"]
)
def test_invalid_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)
