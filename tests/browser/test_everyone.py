"""Without scripts, without a mouse, on a small screen, in the dark, by ear."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open

PAGES = ("/", "/live", "/gate", "/recent", "/result/0123456789abcdef0123456789abcdef")


def violations(page: Page) -> str:
    """What axe-core finds, as text; empty where it finds nothing."""
    found = Axe().run(page)
    return found.generate_report() if found.violations_count else ""


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_without_scripts_everything_works_by_forms_and_links(
    open_page: Open, portrait: Path, empty_wall: Path, shoot
) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", java_script_enabled=False)
    page.set_input_files("#file", portrait)
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("h2")).to_contain_text("Smiling")
    shoot(page, "without-scripts")
    page.get_by_role("link", name="Why?").click()
    expect(page.locator("img.heat")).to_be_visible()
    page.get_by_role("link", name="Try another picture").click()
    page.set_input_files("#file", [portrait, empty_wall])
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("article.result")).to_have_count(2)
    page.get_by_role("link", name="Recent").click()
    expect(page.locator(".recent li")).to_have_count(3)
    page.get_by_role("button", name="Delete portrait.jpg").first.click()
    expect(page.locator(".recent li")).to_have_count(2)
    page.get_by_role("link", name="Try", exact=True).click()
    page.get_by_role("button", name="a cat").click()
    expect(page.locator("h2")).to_contain_text("cat")


def test_by_keyboard_alone_a_model_is_chosen_a_sample_sent_and_its_answer_opened(open_page: Open) -> None:
    page = open_page("/")
    press = page.keyboard.press
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.name") == "model":
            break
    press("ArrowDown")
    expect(page.locator("input[name=model][value=dogcat]")).to_be_checked()
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.value") == "astronaut":
            break
    press("Enter")
    expect(page.locator("#answers .result")).to_be_visible()
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.textContent") == "For programs":
            break
    press("Enter")
    expect(page.get_by_label("Command")).to_be_visible()


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_and_nothing_sticks_out_on_a_small_screen(open_page: Open, path: str) -> None:
    page = open_page(path, width=360, height=740)
    assert violations(page) == ""
    assert fits(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_an_answer(open_page: Open, portrait: Path, shoot, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", color_scheme=scheme)
    page.set_input_files("#file", portrait)
    expect(page.locator("#answers .result")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    assert violations(page) == ""
    shoot(page, scheme)


def test_dark_is_dark(open_page: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert max(open_page("/", color_scheme="dark").evaluate(ground)) < 64
    assert min(open_page("/", color_scheme="light").evaluate(ground)) > 192


def test_a_phone_is_offered_its_camera(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", width=360, height=740, has_touch=True, is_mobile=True)
    photo = page.locator("#photo")
    expect(photo).to_be_visible()
    assert photo.get_attribute("capture") == "environment"
    photo.set_input_files(portrait)
    expect(page.locator("#answers h2")).to_contain_text("Smiling")
    assert fits(page)
    shoot(page, "phone")


def test_pages_run_under_a_policy_without_exceptions(open_page: Open) -> None:
    page = open_page("/")
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.locator("[style], style, script:not([src])").count() == 0
