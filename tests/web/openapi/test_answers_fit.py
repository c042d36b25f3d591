"""The OpenAPI document is true: requests made up from it are answered as it says, and none fails the server.

Both ports of a real server are asked, with the smile model alone. What Multi Model Server lets pass (numbers that are
none count as missing, any method predicts) is not checked against the document, which has the usual ways.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.settings import ROOT
from tests.conftest import Server
from tests.pictures import encode, face_crop, plain


def npy(*shape: int) -> bytes:
    """Return a file of zeros, as NumPy writes it."""
    file = io.BytesIO()
    np.save(file, np.zeros(shape, np.float32))
    return file.getvalue()


FACE = encode(face_crop())
PICTURES = [FACE, encode(plain(), "PNG"), b"", b"no picture", FACE[:200]]
NAMES = ["smile", "smile", "nobody", "a b", "ü", "...", "%00", "x" * 300]
URLS = ["smile", "empty", "smile/signature.json", "", "../smile", "a\0b", "http://x:y/", "http://[", 300 * "x", "ü"]
SIZES = [[1, 1, 64, 64], [4096], [0], [1], [2, 1]]
TENSORS = [{"data": [0.5] * 4096}, {"data": ["/9j/"]}, {"data": []}, {"parameters": {"binary_data_size": 0}}]
EXAMPLES = settings().max_examples // 8
"""Requests for each operation: 5 in ``make test``."""
SLOW = list(HealthCheck)

for kind in ("jpeg", "png", "gif", "webp", "bmp", "tiff"):
    schemathesis.openapi.media_type(f"image/{kind}", st.sampled_from(PICTURES))
schemathesis.openapi.media_type(
    "application/x-npy", st.sampled_from([npy(1, 1, 64, 64), npy(3), b"", b"\x93NUMPY\1\0"])
)
schemathesis.openapi.media_type("text/csv", st.sampled_from([b"0," * 4095 + b"1\n", b"1,2\n3", b"a", b"", b"\xff"]))


def inputs() -> st.SearchStrategy[dict[str, Any]]:
    """Return tensors for the Open Inference Protocol, some of which fit the model."""
    names, types = st.sampled_from(["/conv2d_1_input1", "image", "x"]), st.sampled_from(["FP32", "BYTES", "UINT8"])
    head = st.fixed_dictionaries({"name": names, "datatype": types, "shape": st.sampled_from(SIZES)})
    return st.builds(lambda first, rest: {**first, **rest}, head, st.sampled_from(TENSORS))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server of this file's own, as its models are unregistered."""
    work = tmp_path_factory.mktemp("fit")
    shutil.copytree(ROOT / "models" / "smile", work / "models" / "smile")
    (work / "models" / "empty").mkdir()
    server = Server(work / "models", work, DIMPLE_SHIPPED_MODELS="false")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def answers(context: Any, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """Check that the server does not fail; a model may be busy or gone, as the document states."""
    assert response.status_code != 500, case.as_curl_command()


CHECKS = [answers, status_code_conformance, content_type_conformance, response_schema_conformance]


def ask(operation: schemathesis.APIOperation) -> None:
    """Send requests to one operation, some that match the document and some that do not."""

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW)
    @given(
        case=operation.as_strategy(),
        name=st.sampled_from(NAMES),
        url=st.sampled_from(URLS),
        version=st.sampled_from(["1.0", "1.0", "2", "ü"]),
        sent=inputs(),
    )
    def send(case: schemathesis.Case, name: str, url: str, version: str, sent: dict[str, Any]) -> None:
        case.path_parameters.update({key: name for key in case.path_parameters})
        if "version" in case.path_parameters:
            case.path_parameters["version"] = version
        if operation.label.endswith("/infer") and case.media_type == "application/json":
            case.body["inputs"] = [sent]
        if operation.label == "POST /models":
            case.query = {**(case.query or {}), "url": url}
        case.call_and_validate(checks=CHECKS)

    send()


def ask_all(address: str) -> list[str]:
    """Send requests to every operation of a port's document.

    :returns: the operations.
    """
    found = [result.ok() for result in schemathesis.openapi.from_url(f"{address}/openapi.json").get_all_operations()]
    for operation in sorted(
        found, key=lambda item: item.method == "delete"
    ):  # otherwise no model is left for the others
        ask(operation)
    return [operation.label for operation in found]


def test_responses_of_inference_match_the_document(server: Server) -> None:
    operations = ask_all(server.url(""))
    assert {"POST /predict/{model}", "POST /v2/models/{model}/infer", "GET /v2/models/{model}/ready"} <= set(operations)


def test_responses_of_management_match_the_document(server: Server) -> None:
    assert "PUT /models/{name}" in ask_all(f"http://127.0.0.1:{server.management_port}")
