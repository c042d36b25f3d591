"""The input of a handler for every kind of request: the model ``echo`` returns it as Python writes it."""

from __future__ import annotations

from bench.parity.check import JSON, Check, form, manage, predict

NUL = bytes(range(256))


def sent(name: str, line: str, says: str = "", kind: str = "", body: object = None, **headers: str) -> Check:
    """Return a check of a request to ``echo`` with this content type."""
    sent_headers = {
        **({"Content-Type": kind} if kind else {}),
        **{key.replace("_", "-"): text for key, text in headers.items()},
    }
    return predict(f"inputs.{name}", line, 200, says, body, sent_headers)


def parts(name: str, line: str = "POST /predictions/echo", says: str = "", **fields: object) -> Check:
    """Return a check of a multipart form to ``echo``."""
    body, kind = form({key.replace("_", "-"): value for key, value in fields.items()})  # type: ignore[misc]
    return predict(f"inputs.{name}", line, 200, says, body, kind)


P, INVOKE, L = "POST /predictions/echo", "POST /invocations?model_name=echo", "POST /echo/predict"
URLENCODED = "application/x-www-form-urlencoded"

CHECKS = [
    manage("inputs.register", "POST /models?url=echo&initial_workers=1", 200, "Workers scaled"),
    sent("raw", P, "bytearray", "application/octet-stream", b"some bytes"),
    sent("raw-no-type", P, "bytearray", "", b"some bytes"),
    sent("raw-every-byte", P, "bytearray", "image/jpeg", NUL),
    sent("raw-empty", P, "bytearray(b'')"),
    sent("get-empty", "GET /predictions/echo", "bytearray(b'')"),
    sent("put", "PUT /predictions/echo", "bytearray", "", b"some bytes"),
    sent("chunked", P, "bytearray", "application/octet-stream", lambda: iter([b"some ", b"bytes"])),
    sent("chunked-json", P, "'a'", JSON, lambda: iter([b'{"a":', b" 1}"])),
    sent("text", P, "'body'", "text/plain", "Grüße"),
    sent("text-charset", P, "'body'", "text/plain; charset=utf-8", "Grüße"),
    sent("text-csv", P, "'body'", "text/csv", "a,b"),
    sent("text-upper-case", P, "'body'", "TEXT/PLAIN", "a,b"),
    predict("inputs.text-not-utf8", P, 500, "Worker died.", b"\xff\xfe", {"Content-Type": "text/plain"}),
    sent("after-text-not-utf8", P, "bytearray", "", b"x"),
    sent("json", P, "'a'", JSON, '{"a": [1, 2.5, null, true, "ü"]}'),
    sent("json-charset", P, "'a'", "application/json; charset=utf-8", '{"a": 1}'),
    sent("json-upper-case", P, "", "Application/JSON", '{"a": 1}'),
    sent("json-empty-list", P, "[]", JSON, "[]"),
    sent("json-text", P, "'x'", JSON, '"x"'),
    sent("json-nan", P, "nan", JSON, "NaN"),
    sent("json-like", P, "bytearray", "application/vnd.api+json", '{"a": 1}'),
    sent("urlencoded", P, "'data'", URLENCODED, "data=test&other=a%20b+c&empty="),
    sent("urlencoded-charset", P, "'data'", URLENCODED + "; charset=utf-8", "data=test"),
    sent("urlencoded-twice", P, "'data'", URLENCODED, "data=first&data=last"),
    sent("urlencoded-empty", P, "", URLENCODED, ""),
    sent("urlencoded-no-pairs", P, "", URLENCODED, "no pairs at all"),
    sent("urlencoded-umlaut", P, "'d'", URLENCODED, "d=%C3%BC"),
    sent("query-predictions", P + "?a=1", "bytearray", "", b"x"),
    sent("query-invocations", INVOKE + "&a=1&b=%C3%BC&empty=", "'model_name'", "", b"x"),
    sent("query-invoke", "POST /models/echo/invoke?a=1", "'a'", "", b"x"),
    sent("query-legacy", L + "?a=1", "'a'", "", b"x"),
    sent("query-twice", L + "?a=first&a=last", "'a'", "", b"x"),
    sent("query-named-body", L + "?body=query", "'body'", "", b"x"),
    sent("query-get", "GET /echo/predict?data=test", "'data'"),
    sent("query-form", INVOKE, "'data'", URLENCODED, "data=test&model_name=other"),
    parts("multipart-text", data="test"),
    parts("multipart-two", first="1", second="2"),
    parts("multipart-file", data=("a.bin", "application/octet-stream", NUL)),
    parts("multipart-file-no-type", data=("a.bin", "", b"x")),
    parts("multipart-file-text", data=("a.txt", "text/plain", "Grüße".encode())),
    parts("multipart-file-json", data=("a.json", JSON, b'{"a": 1}')),
    parts("multipart-file-jpeg", says="bytearray", data=("a.jpg", "image/jpeg", b"\xff\xd8")),
    parts("multipart-mixed", data=("a.jpg", "image/jpeg", b"\xff\xd8"), text="x", more=("b.txt", "text/plain", b"b")),
    parts("multipart-empty-file", data=("a.bin", "application/octet-stream", b"")),
    parts("multipart-empty-name", data=("", "application/octet-stream", b"x")),
    parts("multipart-query", L + "?a=1", "'a'", data=("a.bin", "application/octet-stream", b"x")),
    predict("inputs.multipart-slash-name", L, 200, "/conv2d_1_input1",
            *form({"/conv2d_1_input1": ("a.jpg", "image/jpeg", b"\xff\xd8")})),
    predict("inputs.broken-json", P, 500, "Worker died.", '{"a": ', {"Content-Type": JSON}),
    predict("inputs.after-broken-json", P, 200, "bytearray", b"x"),
    predict("inputs.multipart-no-boundary", P, 200, "", b"x", {"Content-Type": "multipart/form-data"}),
    predict("inputs.multipart-cut", P, 200, "", form({"data": "test"})[0][:-30], form({})[1]),
    manage("inputs.unregister", "DELETE /models/echo", 200, "unregistered"),
]  # fmt: skip
