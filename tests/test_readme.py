"""What the README promises, kept."""

from __future__ import annotations

import json
import re

import pytest
from flask.testing import FlaskClient

from app.settings import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_answer_shown_is_the_answer_given(client: FlaskClient) -> None:
    found = re.search(r"curl -F file=@(\S+) localhost:8080(\S+)\n\n((?:    .*\n)+)", README)
    assert found
    picture, route, shown = ROOT / found[1], found[2], json.loads(found[3])
    with picture.open("rb") as file:
        given = client.post(route, data={"file": (file, picture.name)}).json
    assert list(given) == list(shown)
    assert given["timing_ms"].keys() == shown["timing_ms"].keys()
    for mine, theirs in zip(given["predictions"], shown["predictions"], strict=True):
        assert mine["class"] == theirs["class"]
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    (mine,), (theirs,) = given["faces"], shown["faces"]
    # processors differ in the last bits, and a face's frame moves a pixel for it
    assert mine["box"] == pytest.approx(theirs["box"], abs=3)


@pytest.mark.parametrize("model", ["smile", "dogcat"])
def test_the_accuracies_shown_are_those_measured(model: str) -> None:
    metrics = json.loads((ROOT / "models" / model / "metrics.json").read_text())
    row = next(line for line in README.splitlines() if line.startswith(f"| `{model}` |"))
    assert f"{metrics['accuracy']:.3f} (ROC AUC {metrics['roc_auc']:.3f})" in row
    assert f"{metrics['n']:,} " in row


def test_every_route_of_the_readme_exists(client: FlaskClient) -> None:
    for route in set(re.findall(r"`GET (/[\w/<>]*)`", README)):
        assert client.get(route.replace("<model>", "smile")).status_code in (200, 303), route


def test_every_file_that_the_readme_refers_to_exists() -> None:
    for path in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
