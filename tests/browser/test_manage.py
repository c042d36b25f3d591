"""The models page, at the management port of a real server."""

from __future__ import annotations

import re
import shutil
import urllib.request
import zipfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from app.settings import ROOT
from tests.browser.conftest import Open
from tests.conftest import Server


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smile network under another name, as a .mar."""
    folder = tmp_path_factory.mktemp("archive") / "grin"
    shutil.copytree(ROOT / "models" / "smile", folder, ignore=shutil.ignore_patterns("*.h5", "*.png"))
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"smile"', '"grin"'))
    path = folder.with_suffix(".mar")
    with zipfile.ZipFile(path, "w") as packed:
        for file in folder.rglob("*"):
            packed.write(file, file.relative_to(folder))
    return path


def test_a_model_is_registered_watched_scaled_and_unregistered(
    open_page: Open, server: Server, archive: Path, portrait: Path, shoot
) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/manage", management=True)
    page.set_input_files("#archive", archive)
    page.get_by_role("button", name="Register").first.click()
    grin = page.locator("[data-model=grin]")
    expect(grin.locator(".state")).to_have_text("ready")
    for _ in range(3):  # both processes may answer; the page counts what all have answered
        with urllib.request.urlopen(server.url("/predict/grin"), portrait.read_bytes(), timeout=60) as answer:
            assert answer.status == 200
    expect(grin.locator("[data-fact=requests]")).to_have_text("3")
    expect(grin.locator("[data-now=rate]")).to_have_text(re.compile(r"\d\.\d"))
    assert Axe().run(page).violations_count == 0
    shoot(page, "models")
    grin.get_by_text("Scale grin").click()
    grin.get_by_label("Workers").fill("0")
    grin.get_by_role("button", name="Scale").click()
    expect(grin.locator("dt:text-is('Workers') + dd")).to_have_text("0")
    grin.get_by_text("Unregister grin", exact=True).click()
    grin.get_by_role("button", name="Yes, unregister grin").click()
    expect(page.locator("[data-model=smile]")).to_be_visible()
    expect(grin).to_have_count(0)


def test_what_cannot_be_registered_is_said_on_the_page(open_page: Open) -> None:
    page = open_page("/manage", management=True)
    page.get_by_label("A URL, or a name in the models folder").fill("nothing.mar")
    page.get_by_role("button", name="Register").nth(1).click()
    expect(page.locator("[role=alert]")).to_contain_text("nothing.mar")


def test_the_page_is_not_where_everybody_may_ask(open_page: Open) -> None:
    page = open_page("/manage")
    expect(page.get_by_role("heading")).to_have_text("Page not found")
