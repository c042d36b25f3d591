"""How often each model was asked, by all processes of the server together: the metrics, for the models page."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.telemetry.metric_files import collect


@dataclass(frozen=True)
class Count:
    """Of one model: requests that were answered, those of them that failed (not by the client's fault), requests that
    are being answered at this moment, and the seconds that all answers took together."""

    requests: int = 0
    errors: int = 0
    inside: int = 0
    seconds: float = 0.0


def counts() -> dict[str, Count]:
    """The sums, by the model's name."""
    sums: dict[str, Count] = {}
    for metric in collect():
        for sample in metric.samples:
            if name := sample.labels.get("model"):
                sums[name] = _plus(sums.get(name, Count()), sample.name, sample.labels, sample.value)
    return sums


def _plus(count: Count, name: str, labels: dict[str, str], value: float) -> Count:
    if name == "dimple_requests_total":
        failed = int(value) if labels["code"].startswith("5") else 0
        return replace(count, requests=count.requests + int(value), errors=count.errors + failed)
    if name == "dimple_requests_in_flight":
        return replace(count, inside=int(value))
    if name == "dimple_request_duration_seconds_sum":
        return replace(count, seconds=count.seconds + value)
    return count
