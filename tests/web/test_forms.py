"""Forms as clients send them, and malformed ones. Bodies are written by hand after RFC 7578 and RFC 2046."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterable
from urllib.parse import quote_plus, urlencode

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import TestResponse

from app.errors import BadForm
from app.web.forms import FormParser
from tests.pictures import encode, plain

TYPE = "multipart/form-data; boundary=XX"
PICTURE = encode(plain())


def part(disposition: str, data: bytes, *headers: str, charset: str = "utf-8") -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return b"--XX\r\n" + "\r\n".join(lines).encode(charset) + data + b"\r\n"


def ask(
    client: FlaskClient, parts: Iterable[bytes], path: str = "/predict/dogcat", end: bytes = b"--XX--\r\n"
) -> TestResponse:
    return client.post(path, data=b"".join([*parts, end]), content_type=TYPE)


@pytest.mark.parametrize("path", ["/predict/dogcat", "/file/?model=dogcat", "/predictions/dogcat"])
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([part('name="file"', PICTURE, "Content-Type: image/jpeg")], id="no file name"),
        pytest.param([part('name="file"', PICTURE)], id="neither file name nor type"),
        pytest.param([part('name="file"; filename=""', PICTURE)], id="empty file name"),
        pytest.param([part('name="file"; filename="né.jpg"', PICTURE, charset="latin-1")], id="Latin-1 file name"),
        pytest.param([part("name=\"file\"; filename*=UTF-8''n%C3%A9.jpg", PICTURE)], id="RFC 5987 file name"),
        pytest.param([part('name="files[]"; filename="a.jpg"', PICTURE), part('name="note"', b"x")], id="files[]"),
        pytest.param([part('filename="a.jpg"', PICTURE)], id="no field name"),
        pytest.param([b"preamble\r\n", part('name="file"; filename="a.jpg"', PICTURE)], id="preamble"),
    ],
)
def test_a_picture_is_found_in_a_form(client: FlaskClient, path: str, parts: list[bytes]) -> None:
    expected = client.post(path, data=PICTURE, content_type="image/jpeg")
    response = ask(client, parts, path)
    assert response.status_code == expected.status_code == 200, response.text
    assert [key for key in response.json if key != "timing_ms"] == [key for key in expected.json if key != "timing_ms"]


def test_several_files_of_one_field_are_several_pictures(client: FlaskClient) -> None:
    response = ask(client, [part('name="images"; filename="a.jpg"', PICTURE)] * 2)
    assert len(response.json) == 2


@pytest.mark.parametrize(
    ("parts", "end", "words"),
    [
        ([part('name="a"; filename="a"', PICTURE), part('name="b"; filename="b"', PICTURE)], b"--XX--", "fields a, b"),
        ([part('name="file"; filename="a.jpg"', PICTURE)], b"", "cut off"),
        ([part('name="file"; filename="a.jpg"', PICTURE)[:500]], b"", "cut off"),
        ([b"--XX\r\nContent-Type: image/png\r\n\r\nx\r\n"], b"--XX--", "Content-Disposition"),
        ([b"nothing of the kind"], b"", "cut off"),
        ([part("size=4", b"text")], b"--XX--", "no picture"),
    ],
)
def test_an_unusable_form_is_refused_with_the_reason(
    client: FlaskClient, parts: list[bytes], end: bytes, words: str
) -> None:
    for path in ("/predict/dogcat", "/file/"):
        response = ask(client, parts, path, end)
        assert (response.status_code, words in response.json["message"]) == (400, True), response.text


@pytest.mark.parametrize("path", ["/predictions/dogcat", "/invocations?model_name=dogcat", "/file/?model=dogcat"])
def test_a_picture_that_curl_labels_as_a_urlencoded_form_is_accepted(client: FlaskClient, path: str) -> None:
    kind = "application/x-www-form-urlencoded"
    assert client.post(path, data=PICTURE, content_type=kind).status_code == 200


def parsed(
    data: bytes, kind: str = "application/x-www-form-urlencoded", most: int = 2**20, parts: int = 1000
) -> object:
    parser = FormParser(max_form_memory_size=most, max_form_parts=parts)
    _, fields, files = parser.parse(io.BytesIO(data), kind, len(data), {"boundary": "XX"})
    return list(fields.items(multi=True)) + [(name, file.read()) for name, file in files.items(multi=True)]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))))
def test_a_urlencoded_form_written_by_the_standard_library_is_read(pairs: list[tuple[str, str]]) -> None:
    by_name = MultiDict(pairs)  # which keeps the values of a name together
    assert parsed(urlencode(pairs).encode()) == list(by_name.items(multi=True))


def test_a_long_field_is_read_completely_in_pieces_of_any_size() -> None:
    text = "é a+b%" * 50_000
    assert parsed(b"t=" + quote_plus(text).encode(), most=4 * 2**20) == [("t", text)]


HEADERS = b"--XX\r\nContent-Disposition: form-data; name=a\r\n"
BOMBS = {
    "a million fields": (b"a=&" * 2**20, "application/x-www-form-urlencoded"),
    "one long field": (b"a=" + b"%41" * 2**20, "application/x-www-form-urlencoded"),
    "text that is not ASCII": (b"a=" + "é".encode() * 2**18, "application/x-www-form-urlencoded"),
    "fields that are long together": (b"".join([part("name=a", b"x" * 2**18)] * 5) + b"--XX--", TYPE),
    "many parts": (b"".join([part("name=a", b"")] * 1001) + b"--XX--", TYPE),
    "many headers": (HEADERS + b"a:b\r\n" * 2**18 + b"\r\nx\r\n--XX--", TYPE),
    "a long header": (HEADERS + b"a: " + b"b" * 2**20 + b"\r\n\r\nx\r\n--XX--", TYPE),
    "headers without end": (HEADERS + b"a: b" * 2**18, TYPE),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_form_beyond_the_limits_is_refused_before_it_takes_memory(name: str) -> None:
    data, kind = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(RequestEntityTooLarge):
            parsed(data, kind.partition(";")[0])
        assert tracemalloc.get_traced_memory()[1] <= 4 * len(data)
    finally:
        tracemalloc.stop()


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(BadForm, match="boundary"):
        FormParser().parse(io.BytesIO(b""), "multipart/form-data", 0, {})


@pytest.mark.parametrize("query", [b"top=1&x=\xff", "top=1&é=é".encode(), b"top=%ff1", b"\x80" * 2000])
def test_a_query_may_contain_any_bytes(client: FlaskClient, query: bytes) -> None:
    for path in ("/predict/dogcat", "/predictions/dogcat", "/file/", "/invocations"):
        environ = {"QUERY_STRING": query.decode("latin-1")}  # as WSGI has it (PEP 3333)
        response = client.post(path, data=PICTURE, content_type="image/jpeg", environ_overrides=environ)
        assert response.status_code in (200, 400)
