"""The manifests of docs/kubernetes, which Kubernetes and KServe must accept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.settings import ROOT

FOLDER = ROOT / "docs" / "kubernetes"
VERSION = "1.37"

EXTENSION: dict[str, Any] = {
    "minReplicas": {"type": "integer", "minimum": 0},
    "maxReplicas": {"type": "integer", "minimum": 0},
    "scaleTarget": {"type": "integer"},
    "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]},
    "containerConcurrency": {"type": "integer", "minimum": 0},
    "timeout": {"type": "integer"},
    "canaryTrafficPercent": {"type": "integer"},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
}
"""What a component of an InferenceService has beside the fields of a pod: KServe's API ``serving.kserve.io/v1beta1``,
ComponentExtensionSpec, without those that are objects of their own."""

INFERENCE_SERVICE = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {
            "type": "object",
            "required": ["name"],
            # KServe makes DNS labels of it
            "properties": {"name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}},
        },
        "spec": {
            "type": "object",
            "required": ["predictor"],
            "additionalProperties": False,
            "properties": {
                "predictor": {"type": "object", "required": ["containers"], "properties": EXTENSION},
                "transformer": {"type": "object"},
                "explainer": {"type": "object"},
            },
        },
    },
}


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def validate(document: dict[str, Any]) -> None:
    """Validate a manifest against its schema; of an InferenceService's predictor, the part of a pod against the schema
    of a pod.
    """
    if document["kind"] != "InferenceService":
        kubernetes_validate.validate(document, VERSION, strict=True)
        return
    jsonschema.validate(document, INFERENCE_SERVICE)
    predictor = document["spec"]["predictor"]
    pod = {key: value for key, value in predictor.items() if key not in EXTENSION}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": pod}, VERSION, strict=True
    )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_manifest_is_valid(path: Path) -> None:
    for document in documents(path):
        validate(document)


def test_the_deployment_comes_with_probes_an_autoscaler_and_a_budget() -> None:
    found = {document["kind"]: document for document in documents(FOLDER / "deployment.yaml")}
    assert set(found) == {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    container = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    name = found["Deployment"]["metadata"]["name"]
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == name
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind, key in (("Service", "selector"), ("PodDisruptionBudget", "selector")):
        chosen = found[kind]["spec"][key]
        assert chosen.get("matchLabels", chosen).items() <= labels.items()


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("deployment.yaml", ("spec", "replicas"), "three"),
        ("deployment.yaml", ("spec", "template", "spec", "containers", 0, "readynessProbe"), {}),
        ("inference-service.yaml", ("spec", "predictor", "scaleMetric"), "requests"),
        ("inference-service.yaml", ("spec", "predictor", "container"), []),
    ],
)
def test_the_validation_detects_a_mistake(file: str, place: tuple[Any, ...], value: Any) -> None:
    document = next(documents(FOLDER / file))
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(document)
