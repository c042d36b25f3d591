"""The table of SECURITY.md, compared with the answers to requests beyond a limit.

Limits that have tests of their own: requests' first lines and headers (tests/server/test_access.py), slow clients
(tests/resilience/test_clients.py), rates and tokens (tests/security, tests/web/test_auth.py), queues
(tests/backend/test_batching.py), uploads (tests/serving/test_uploads.py),
handlers (tests/handlers/test_containment.py),
archives and models (tests/formats); what a request may cost (tests/resilience/test_attacks.py, tests/web/test_forms.py,
tests/web/test_json.py).
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from app import create_app, load_models
from app.settings import ROOT, Settings
from tests.conftest import CACHE
from tests.pictures import encode, plain, png_bomb

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LIMITS = TEXT.partition("## Limits")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LIMITS.splitlines() if line.startswith("| ")][
    1:
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[FlaskClient]:
    work = tmp_path_factory.mktemp("small")
    settings = Settings(
        models_dir=models_dir, cache_dir=CACHE, uploads_dir=work / "uploads", instance_dir=work / "instance",
        load_models="smile", shipped_models=False, max_request_bytes=2**20, max_files=2, max_frames=3,
        max_form_parts=4, max_form_memory_bytes=2**17, max_json_depth=5,
    )  # fmt: skip
    app = create_app(settings)
    load_models(app)
    yield app.test_client()
    app.extensions["dimple"].registry.close()


def part(data: bytes) -> tuple[io.BytesIO, str]:
    return io.BytesIO(data), "a.png"


def film() -> bytes:
    dots = [Image.new("L", (1, 1), 200 * (number % 2)) for number in range(4)]
    return encode(dots[0], "GIF", save_all=True, append_images=dots[1:])


PICTURE = encode(plain())
DEEP = json.dumps([[[[[[0]]]]]])
REQUESTS: dict[str, tuple[dict[str, Any], ...]] = {
    "body of a request, also after unpacking": (
        {"data": bytes(2**20 + 1)},
        {
            "path": "/v2/models/smile/infer",
            "data": gzip.compress(bytes(2**21)),
            "headers": {"Content-Encoding": "gzip"},
        },
    ),
    "pictures in a request": ({"data": {"file": [part(PICTURE), part(PICTURE), part(PICTURE)]}},),
    "pixels of a picture, by its header": ({"data": png_bomb()},),
    "frames or pages of a picture file": ({"data": film()},),
    "parts of a form": (
        {"data": {"file": part(PICTURE), "a": ["x"] * 4}},
        {"path": "/predictions/smile", "data": "a=&" * 5, "content_type": "application/x-www-form-urlencoded"},
    ),
    "text in a form": (
        {"data": {"file": part(PICTURE), "a": ["x" * 2**16] * 3}},
        {"path": "/predictions/smile", "data": "a" * 2**18, "content_type": "application/x-www-form-urlencoded"},
    ),
    "nesting of JSON in a request": (
        {"path": "/invocations?model_name=smile", "data": DEEP, "content_type": "application/json"},
        {"path": "/v2/models/smile/infer", "data": '{"inputs":' + DEEP + "}"},
        {"path": "/models", "base_url": "http://localhost:8081", "data": DEEP, "content_type": "application/json"},
    ),
    "bodies compressed with gzip": ({"data": gzip.compress(PICTURE), "headers": {"Content-Encoding": "gzip"}},),
}


@pytest.mark.parametrize(
    ("status", "request_"),
    [(row[3], item) for row in ROWS for item in REQUESTS.get(row[0], ())],
    ids=[f"{row[0]} {number}" for row in ROWS for number, _ in enumerate(REQUESTS.get(row[0], ()))],
)
def test_requests_beyond_a_limit_get_the_status_in_the_table(
    small: FlaskClient, status: str, request_: dict[str, Any]
) -> None:
    response = small.post(**{"path": "/predict/smile", **request_})
    assert str(response.status_code) == status, response.text


def test_every_request_here_belongs_to_a_row_of_the_table() -> None:
    assert set(REQUESTS) <= {row[0] for row in ROWS}


def test_only_seven_formats_are_decoded(small: FlaskClient) -> None:
    Image.init()  # Pillow's other plugins, too
    image = plain(300, 300)
    read, refused = [], []
    for kind in sorted({*Image.SAVE} - {"MPO", "PDF"}):
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind)
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError):
            continue  # Pillow writes no such pictures, or needs another program
        status = small.post("/predict/smile", data=buffer.getvalue()).status_code
        (read if status == 200 else refused).append(kind)
        assert status in (200, 415)
    assert {"AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"} >= set(read)
    assert len(refused) >= 10
