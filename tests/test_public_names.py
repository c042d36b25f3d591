"""Names that clients and operators rely on: routes, JSON keys, settings, metrics and error types.

What the program answers is compared with the snapshots in ``tests/snapshots``; sentences for people may change. A
deliberate change is written there by ``WRITE=1 pytest tests/test_public_names.py``.
"""

from __future__ import annotations

import errno
import json
import os
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from werkzeug import exceptions as http

from app import create_app, errors
from app.settings import ROOT, Settings
from tests.conftest import Server
from tests.pictures import encode, face_crop

SNAPSHOTS = Path(__file__).with_name("snapshots")
SENTENCES = ("description", "summary")


def check(name: str, found: dict[str, Any]) -> None:
    """Compare what was found with a snapshot, which has a line for each key."""
    file = SNAPSHOTS / f"{name}.json"
    if os.environ.get("WRITE"):
        lines = (f"{json.dumps(key)}: {json.dumps(found[key], sort_keys=True)}" for key in sorted(found))
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert json.loads(json.dumps(found)) == json.loads(file.read_text())


def fetch(url: str, method: str = "GET", data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method)) as response:
        return bytes(response.read())


def resolved(part: Any, document: Any) -> Any:
    """Return a part of an OpenAPI document without sentences, and with everything in place of the references to it
    but for the schemas, after which generated clients name their classes."""
    if isinstance(part, list):
        return [resolved(item, document) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref", "")
    if reference and not reference.startswith("#/components/schemas/"):
        found = document
        for key in reference.removeprefix("#/").split("/"):
            found = found[key]
        return resolved(found, document)
    return {
        key: resolved(value, document)
        for key, value in part.items()
        if key not in SENTENCES or not isinstance(value, str)
    }


def operations(document: Any) -> dict[str, Any]:
    """Return what a document says of each method and path, with the parameters that all methods of a path share."""
    found = {}
    for path, methods in document["paths"].items():
        shared = methods.get("parameters", [])
        for method, operation in methods.items():
            if method != "parameters":
                whole = {**operation, "parameters": [*shared, *operation.get("parameters", [])]}
                found[f"{method} {path}"] = resolved(whole, document)
    return found


def documented(name: str, document: Any) -> dict[str, Any]:
    """Return a document's operations, schemas and security, by keys that begin with its name."""
    schemas = resolved(document.get("components", {}).get("schemas", {}), document)
    found = {**operations(document), **{f"schema {key}": schema for key, schema in schemas.items()}}
    return {f"{name}: {key}": part for key, part in {**found, "security": document.get("security")}.items()}


def test_the_openapi_documents_are_unchanged(server: Server) -> None:
    management = f"http://127.0.0.1:{server.management_port}"
    documents = {
        "inference": fetch(server.url("/openapi.json")),
        "management": fetch(f"{management}/openapi.json"),
        "mms inference": fetch(server.url("/"), "OPTIONS"),
        "mms management": fetch(f"{management}/", "OPTIONS"),
        "mms model": fetch(server.url("/predictions/smile"), "OPTIONS"),
    }
    found: dict[str, Any] = {}
    for name, text in documents.items():
        found |= documented(name, json.loads(text))
    check("openapi", found)


def test_a_single_port_documents_both_apis(tmp_path: Path) -> None:
    folders = {f"{name}_dir": tmp_path / name for name in ("models", "uploads", "instance")}
    client = create_app(Settings(port=8080, management_port=8080, **folders)).test_client()
    snapshot = json.loads((SNAPSHOTS / "openapi.json").read_text())
    for kind, document in (("", client.get("/openapi.json").json), ("mms ", client.options("/").json)):
        names = [f"{kind}inference: ", f"{kind}management: "]
        both = {
            key.removeprefix(name): part for name in names for key, part in snapshot.items() if key.startswith(name)
        }
        assert documented("", document) == {f": {key}": part for key, part in both.items()}


def test_metrics_at_both_ports_are_documented_at_both_ports(tmp_path: Path) -> None:
    folders = {f"{name}_dir": tmp_path / name for name in ("models", "uploads", "instance")}
    client = create_app(Settings(metrics_at="both", **folders)).test_client()
    assert "/metrics" in client.get("/openapi.json").json["paths"]


def test_the_settings_are_unchanged() -> None:
    def default(value: Any) -> str:
        return str(value).replace(str(ROOT), "")

    check(
        "settings",
        {
            f"DIMPLE_{field.name.upper()}": {
                "type": field.metadata["kind"].__name__,
                "default": default(field.default),
                "low": field.metadata["low"],
                "choices": field.metadata["choices"],
                "empty": field.metadata["empty"],
            }
            for field in fields(Settings)
        },
    )


def test_the_metrics_are_unchanged(server: Server) -> None:
    fetch(server.url("/predict/smile"), "POST", encode(face_crop()))
    text = fetch(f"http://127.0.0.1:{server.management_port}/metrics").decode()
    check(
        "metrics",
        {
            family.name: {
                "type": family.type,
                "samples": sorted({sample.name for sample in family.samples}),
                "labels": sorted({label for sample in family.samples for label in sample.labels}),
            }
            for family in text_string_to_metric_families(text)
        },
    )


DIMPLE_ERRORS: tuple[Exception, ...] = (
    errors.DimpleError("x"),
    errors.InternalError(),
    errors.BadInput("x"),
    errors.MissingFile(),
    errors.BadForm("x"),
    errors.EmptyFile(),
    errors.InvalidImage("x"),
    errors.PictureTooLarge(2, 2, 1),
    errors.TooManyFiles(2, 1),
    errors.TooManyFrames(1),
    errors.UnsupportedContentEncoding("br", "gzip"),
    errors.MissingParameter("x"),
    errors.BadParameter("x", "y", "z"),
    errors.ModelNotFound("x", []),
    errors.ModelNotInStore("x"),
    errors.ProjectNotFound("x"),
    errors.ModelUnavailable("x", "y"),
    errors.NoWorker("x"),
    errors.QueueFull("x"),
    errors.QueueTimeout("x"),
    errors.NoReplica("x"),
    errors.ClusterUnavailable("x", "y"),
    errors.EngineUnavailable("x"),
    errors.ClientClosedRequest("x"),
    errors.ModelConflict("x"),
    errors.UnregisterTimeout("x"),
    errors.InvalidHandlerResponse("x", "y"),
    errors.HandlerLoadError("x", "y", "z"),
    errors.ModelFormatError("x"),
    errors.InvalidArchive("x"),
    errors.RequirementsError("x", "y"),
    errors.PackError("x"),
    errors.DataError("x"),
    errors.FetchError("x", 404),
    errors.DownloadError("x"),
    errors.UrlNotAllowed("x", "y", "z"),
    errors.TokenError("x"),
    errors.TokenRequired("management"),
    errors.InvalidToken("management", expired=True),
    errors.InsufficientRole("x", "prediction", "management"),
    errors.TooManyRequests(2.0),
    errors.ClusterError("x"),
    errors.RegistryBusy("x"),
    errors.StorageError("x", "y"),
    errors.TooManyOpenFiles("x"),
    errors.LaunchError("x"),
    errors.SettingError("x", "y", "z"),
    errors.UnknownSetting("x", "y"),
)
OTHER_ERRORS: dict[str, Exception] = {
    "HandlerLoadError without memory": errors.HandlerLoadError("x", "y", "z", 507),
    "a full disk": OSError(errno.ENOSPC, "No space left on device"),
    "too many open files": OSError(errno.EMFILE, "Too many open files"),
    "an OSError": OSError(errno.EIO, "Input/output error"),
    "a ValueError": ValueError("x"),
    "no memory": MemoryError(),
    **{
        f"HTTP {kind.__name__}": kind()
        for kind in (
            http.BadRequest,
            http.BadRequestKeyError,
            http.ClientDisconnected,
            http.Forbidden,
            http.NotFound,
            http.RequestEntityTooLarge,
            http.RequestTimeout,
            http.UnsupportedMediaType,
            http.RequestedRangeNotSatisfiable,
            http.InternalServerError,
        )
    },
    "HTTP MethodNotAllowed": http.MethodNotAllowed(["GET"]),
}


def all_kinds(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for item in kind.__subclasses__():
        yield from all_kinds(item)


@pytest.fixture
def raising(tmp_path: Path) -> Iterator[Flask]:
    """Yield the application with routes that raise an error, in each of the three blueprints with errors of their own
    format and in none.
    """
    folders = {f"{name}_dir": tmp_path / name for name in ("models", "uploads", "instance")}
    app = create_app(Settings(**folders))

    def fail(error: Exception) -> NoReturn:
        raise error

    for blueprint in ("predict", "mms", "oip"):
        for number, (_, error) in enumerate(raised()):
            path = f"/raise-{blueprint}/{number}"
            app.add_url_rule(path, f"{blueprint}.raise{number}", partial(fail, error))
    yield app
    app.extensions["dimple"].registry.close()


def raised() -> Iterable[tuple[str, Exception]]:
    yield from ((type(error).__name__, error) for error in DIMPLE_ERRORS)
    yield from OTHER_ERRORS.items()


def test_every_error_class_is_covered() -> None:
    assert {type(error) for error in DIMPLE_ERRORS} == set(all_kinds(errors.DimpleError))


def test_types_and_statuses_of_errors_are_unchanged(raising: Flask) -> None:
    client = raising.test_client()
    found = {}
    for number, (name, _) in enumerate(raised()):
        own, mms, oip = (client.get(f"/raise-{blueprint}/{number}") for blueprint in ("predict", "mms", "oip"))
        page = client.get(f"/raise-predict/{number}", headers={"Accept": "text/html"})
        if name in {type(error).__name__ for error in DIMPLE_ERRORS}:
            name = own.json["type"]  # of these alone, the type is Dimple's own
        for response in (own, mms):
            assert list(response.json) == ["code", "type", "message"]
            assert response.json["code"] == response.status_code
        assert list(oip.json) == ["error"]
        assert page.mimetype == "text/html"
        found[name] = {
            "own": [own.status_code, own.json["type"]],
            "mms": [mms.status_code, mms.json["type"]],
            "oip": oip.status_code,
            "page": page.status_code,
            "headers": [
                sorted(set(response.headers.keys()) & {"Retry-After", "WWW-Authenticate", "Allow", "Accept-Encoding"})
                for response in (own, mms, oip, page)
            ],
        }
    check("errors", found)
