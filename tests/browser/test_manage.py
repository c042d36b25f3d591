"""The pages for models, at the management port of a real server."""

from __future__ import annotations

import re
import shutil
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from app.settings import ROOT
from tests.browser.conftest import Open
from tests.conftest import Server

SIZES = ((360, 740), (768, 1024), (1280, 720), (1920, 1080))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the smile network under another name, as a .mar."""
    folder = tmp_path_factory.mktemp("archive") / "grin"
    shutil.copytree(ROOT / "models" / "smile", folder, ignore=shutil.ignore_patterns("*.h5", "*.png"))
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"smile"', '"grin"'))
    path = folder.with_suffix(".mar")
    with zipfile.ZipFile(path, "w") as packed:
        for file in folder.rglob("*"):
            packed.write(file, file.relative_to(folder))
    return path


def check(page: Page) -> None:
    """Check that axe finds no violation, and that the page does not scroll sideways."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_model_is_registered_watched_scaled_and_unregistered(
    open_page: Open, server: Server, archive: Path, portrait: Path, shoot: Callable[[Page, str], None]
) -> None:
    page = open_page("/manage", management=True)
    page.set_input_files("#archive", archive)
    page.get_by_role("button", name="Register").first.click()
    grin = page.locator("[data-model=grin]").first
    expect(grin.locator("[data-fact=state]")).to_have_text("ready")
    expect(page.locator(".toast")).to_contain_text("grin is registered")
    for _ in range(3):  # both processes may answer; the page counts what all have answered
        with urllib.request.urlopen(server.url("/predict/grin"), portrait.read_bytes(), timeout=60) as answer:
            assert answer.status == 200
    expect(grin.locator("[data-fact=p50]")).to_have_text(re.compile(r"\d ms"))
    expect(grin.locator("[data-fact=p95]")).to_have_text(re.compile(r"\d ms"))
    expect(grin.locator("[data-fact=rate]")).to_have_text(re.compile(r"\d"))
    check(page)
    shoot(page, "models")

    page.get_by_role("link", name="Details of grin").press("Enter")
    drawer = page.get_by_role("dialog", name="grin")
    expect(drawer.locator("dt:text-is('Requests') + dd")).to_have_text("3")
    expect(drawer.get_by_role("heading", name="Last 24 hours")).to_be_visible()
    check(page)
    drawer.get_by_label("Workers").fill("0")
    drawer.get_by_role("button", name="Scale").click()
    expect(drawer).to_have_count(0)
    expect(grin.locator("[data-fact=state]")).to_have_text("paused")
    page.get_by_role("link", name="Details of grin").click()
    page.get_by_role("button", name="Unregister grin").click()
    question = page.get_by_role("dialog", name="Unregister grin?")
    question.get_by_role("button", name="Cancel").click()
    expect(grin).to_have_count(1)
    page.get_by_role("button", name="Unregister grin").click()
    question.get_by_role("button", name="Unregister", exact=True).click()
    expect(page.locator("[data-model=grin]")).to_have_count(0)
    expect(page.locator("[data-model=smile]")).to_be_visible()


def test_a_failed_registration_is_reported_on_the_page(open_page: Open, server: Server) -> None:
    page = open_page("/manage", management=True)
    page.get_by_label("URL, or file name in models/").fill("nothing.mar")
    page.get_by_role("button", name="Register").nth(1).click()
    expect(page.locator("#problem")).to_contain_text("nothing.mar")
    assert "/tmp" not in page.locator("#problem").inner_text()


def test_the_catalogue_is_searched(open_page: Open) -> None:
    page = open_page("/manage", management=True)
    field = page.get_by_role("combobox", name="Name of a model")
    field.fill("mobilenet1.0")
    page.get_by_role("option").first.click()
    expect(field).to_have_value(re.compile("mobilenet"))
    expect(page.locator("#chosen")).to_contain_text("MB")


def test_the_manage_page_works_without_scripts(open_page: Open) -> None:
    page = open_page("/manage", management=True, java_script_enabled=False)
    page.get_by_role("link", name="Details of dogcat").click()
    expect(page.get_by_role("heading", name="dogcat", level=1)).to_be_visible()
    page.get_by_label("Workers").fill("1")
    page.get_by_role("button", name="Scale").click()
    expect(page.locator("[data-model=dogcat] [data-fact=workers]")).to_have_text("1")
    page.get_by_label("URL, or file name in models/").fill("nothing.mar")
    page.get_by_role("button", name="Register").nth(1).click()
    expect(page.get_by_role("alert")).to_contain_text("nothing.mar")


def test_the_manage_page_is_not_at_the_inference_port(open_page: Open) -> None:
    page = open_page("/manage")
    expect(page.locator("h1")).to_contain_text("not found")


def test_the_management_port_leads_to_the_page(open_page: Open) -> None:
    page = open_page("/", management=True)
    expect(page.get_by_role("heading", name="Models", level=1)).to_be_visible()


@pytest.mark.parametrize("path", ["/about/smile", pytest.param("/about/imagenet", marks=pytest.mark.slow)])
def test_a_model_has_a_page(open_page: Open, server: Server, path: str, shoot: Callable[[Page, str], None]) -> None:
    for scheme, (width, height) in zip(("light", "dark", "light", "dark"), SIZES, strict=True):
        page = open_page(path, width=width, height=height, color_scheme=scheme)
        check(page)
        shoot(page, f"{path[1:].replace('/', '-')}-{width}")
        page.context.close()
    page = open_page(path)
    expect(page.get_by_text(f"curl -F file=@image.jpg {server.url('/predict/')}")).to_be_visible()


def test_the_page_of_a_model_names_its_test_set_and_classifies_an_image(open_page: Open, portrait: Path) -> None:
    page = open_page("/about/smile", java_script_enabled=False)
    expect(page.get_by_text("1,142 images of SMILEsmileD that were held out from training")).to_be_visible()
    page.get_by_label("Image").set_input_files(portrait)
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_text("Smiling").first).to_be_visible()


@pytest.mark.parametrize(
    ("management", "scheme"),
    [
        *((False, "light"), (True, "dark")),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((False, "dark"), (True, "light"))),
    ],
)
def test_the_api_documentation_shows_our_own_api_first_and_expanded(
    open_page: Open, management: bool, scheme: str, shoot: Callable[[Page, str], None]
) -> None:
    page = open_page("/docs", width=360 if scheme == "dark" else 1280, management=management, color_scheme=scheme)
    first = page.locator(".opblock-tag").first
    expect(first).to_have_text("Health" if management else "Pictures")
    expect(first).to_have_attribute("data-is-open", "true")
    for section in page.locator(".opblock-tag", has_text="Multi Model Server").all():
        expect(section).to_have_attribute("data-is-open", "false")
    expect(page.locator(".opblock-tag", has_text="The page")).to_have_count(0)
    page.locator(".opblock-summary-control").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    check(page)
    shoot(page, f"docs-{'management' if management else 'inference'}-{scheme}")
