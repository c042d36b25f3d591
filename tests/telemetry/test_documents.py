"""The documents, the dashboard and the alerts, which cover exactly the metrics and labels that a real server has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from app.settings import ROOT
from tests.telemetry.conftest import Watched

DOCUMENT = ROOT / "docs" / "metrics.md"
DASHBOARD = ROOT / "docs" / "grafana" / "dimple.json"
RULES = ROOT / "docs" / "alerts" / "dimple.rules.yml"
OF_SCRAPES = {"instance", "job"}
"""Labels that Prometheus itself adds."""
ROW = re.compile(r"\| `(dimple_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


@pytest.fixture(scope="module")
def real(watched: Watched) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every sample that a server has, by its name."""
    watched.ask("POST", "/predict/smile", (ROOT / "static" / "astronaut.jpg").read_bytes())
    found: dict[str, tuple[str, set[str]]] = {}
    for family in watched.metrics().values():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        for part in PARTS[family.type]:
            found[family.name + part] = family.type, labels | ({"le"} if part == "_bucket" else set())
    return found


def queries() -> Iterator[tuple[str, str]]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for line in DOCUMENT.read_text().splitlines():
        if found := re.fullmatch(r"\| [^|]+\? \| `(.+)` \|", line):
            yield line.split("|")[1].strip(), found[1]


def parsed(query: str) -> Any:
    return promql.parse(query.replace("$__rate_interval", "5m").replace("$model", ".+"))


def selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric of a query with the labels that it is expected to have."""
    if isinstance(node, promql.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
        return
    grouping: set[str] = set()
    if isinstance(node, promql.AggregateExpr) and node.modifier:
        grouping = set(node.modifier.labels)
    for part in ("lhs", "rhs", "expr", "vector_selector"):
        if (below := getattr(node, part, None)) is not None:
            yield from ((name, labels | grouping) for name, labels in selectors(below))
    for below in getattr(node, "args", ()):
        yield from selectors(below)


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_every_query_uses_existing_metrics_and_labels(
    real: dict[str, tuple[str, set[str]]], title: str, query: str
) -> None:
    found = list(selectors(parsed(query)))
    assert found, title
    for name, labels in found:
        assert name in real
        assert labels - OF_SCRAPES <= real[name][1], name


def test_the_table_has_every_metric_with_its_type_and_labels(real: dict[str, tuple[str, set[str]]]) -> None:
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(DOCUMENT.read_text())
    }
    families = {
        re.sub("_bucket$", "", name): (kind, labels - {"le"})
        for name, (kind, labels) in real.items()
        if not name.endswith(("_sum", "_count"))
    }
    assert documented == families


def test_the_dashboard_and_the_alerts_cover_all_metrics(real: dict[str, tuple[str, set[str]]]) -> None:
    def family(name: str) -> str:
        return re.sub("_(bucket|sum|count)$", "", name)

    used = {family(name) for _, query in queries() for name, _ in selectors(parsed(query))}
    assert used == {family(name) for name in real}


def test_every_alert_of_the_rules_is_in_the_document() -> None:
    rules = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert set(re.findall(r"^\| `(Dimple\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)) == rules


def test_the_dashboard_is_valid() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["type"] for panel in panels} == {"row", "timeseries", "stat"}
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) == 23
    variables = {item["name"]: item for item in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", "model"}
    assert set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) <= {*variables, "__rate_interval", "__all"}
    assert variables["model"]["query"]["query"] == "label_values(dimple_model_up, model)"


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is part of Prometheus")
def test_promtool_accepts_the_rules_and_every_alert_fires(tmp_path: Path) -> None:
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(RULES.with_name("dimple.test.yml"))]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
