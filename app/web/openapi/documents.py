"""The API documents of a port, cut from the files beside this module."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from app.web.around.asked import Asked

BLUEPRINTS = {
    "The page": "pages",
    "Pictures": "predict",
    "What an answer rests on": "explain",
    "Multi Model Server: inference": "mms",
    "Multi Model Server: management": "management",
    "Open Inference Protocol": "oip",
    "Health": "ops",
    "Metrics": "metrics",
    "Documents": "openapi",
}
"""The blueprint of each tag's operations."""

Json = dict[str, Any]


def own_document(port: Asked) -> Json:
    """Return Dimple's OpenAPI 3.1 document, with the operations that answer at a port."""

    def answers(tag: str) -> bool:
        return port.answers(BLUEPRINTS[tag])

    whole = _read("openapi.yaml")
    paths = {}
    for path, operations in whole["paths"].items():
        kept = {key: one for key, one in operations.items() if key == "parameters" or answers(one["tags"][0])}
        if set(kept) - {"parameters"}:
            paths[path] = kept
    return {**whole, "tags": [tag for tag in whole["tags"] if answers(tag["name"])], "paths": paths}


def mms_document(port: Asked) -> Json:
    """Return Multi Model Server's OpenAPI 3.0 document of a port, of both APIs if both answer there."""
    documents = []
    if port.inference:
        documents.append(_read("mms_inference.yaml"))
    if port.management:
        documents.append(_read("mms_management.yaml"))
    return {**documents[0], "paths": {path: one for document in documents for path, one in document["paths"].items()}}


@lru_cache
def _read(name: str) -> Json:
    import yaml  # when a document is first asked for, as it would make every start longer

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the second is ten times as slow, and always there
    document: Json = yaml.load(Path(__file__).with_name(name).read_text(encoding="utf-8"), loader)
    return document
