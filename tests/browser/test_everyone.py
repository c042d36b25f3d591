"""The page without scripts, without a mouse, on a small screen, in dark mode, and for screen readers."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open

PAGES = (
    "/",
    "/live",
    "/live?model=dogcat",
    "/gate",
    "/recent",
    "/corrections",
    "/login",
    "/result/0123456789abcdef0123456789abcdef",
)


def violations(page: Page) -> str:
    """Return the violations that axe-core finds, as text; empty if there are none."""
    found = Axe().run(page)
    return found.generate_report() if found.violations_count else ""


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_page_works_without_scripts_by_forms_and_links(
    open_page: Open, portrait: Path, group: Path, empty_wall: Path, shoot
) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", java_script_enabled=False)
    page.set_input_files("#file", portrait)
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")
    shoot(page, "without-scripts")
    page.get_by_text("Compare with…").click()
    page.locator(".compare .pill", has_text="dogcat").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".verdict")).to_have_count(2)
    page.get_by_role("link", name="Heat map").click()
    expect(page.locator("img.heat")).to_have_js_property("naturalWidth", 264)  # the face and its surroundings
    page.get_by_text("Correct", exact=True).click()
    page.get_by_role("button", name="Save correction").click()
    expect(page.locator(".correct .notice")).to_contain_text("Saved as")
    page.get_by_role("link", name="Clear").click()
    page.set_input_files("#file", [portrait, empty_wall])
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Recent", exact=True).click()
    expect(page.locator(".recent li")).to_have_count(3)
    page.get_by_role("button", name="Delete portrait.jpg").first.click()
    expect(page.locator(".recent li")).to_have_count(2)
    page.get_by_role("link", name="Classify", exact=True).click()
    page.get_by_role("button", name="A cat").click()
    expect(page.locator("article.answer h2")).to_contain_text("Cat")


def tab_to(page: Page, expression: str) -> None:
    """Press the tab key until an expression about the focused element is true."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"((here) => {expression})(document.activeElement)"):
            return
    raise AssertionError(f"nothing that can be reached fits {expression}")


def test_the_keyboard_alone_chooses_a_model_sends_a_sample_and_opens_the_result(open_page: Open) -> None:
    page = open_page("/")
    press = page.keyboard.press
    tab_to(page, "here.name === 'model'")
    press("ArrowRight")
    expect(page.locator("input[name=model][value=dogcat]")).to_be_checked()
    tab_to(page, "here.id === 'file'")
    tab_to(page, "here.value === 'astronaut'")
    press("Enter")
    expect(page.locator("article.answer[data-id]")).to_be_focused()
    tab_to(page, "here.textContent === 'Heat map'")
    press("Space")
    expect(page.locator(".heat-layer")).to_be_attached()
    tab_to(page, "here.textContent.trim() === 'Use it from code'")
    press("Enter")
    expect(page.get_by_role("tab", name="curl")).to_be_visible()
    press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Choose a model")
    press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_no_violation_and_nothing_overflows_a_small_screen(open_page: Open, path: str) -> None:
    page = open_page(path, width=360, height=740)
    assert violations(page) == ""
    assert fits(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_results(open_page: Open, portrait: Path, group: Path, shoot, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", color_scheme=scheme)
    page.set_input_files("#file", group)
    expect(page.locator(".faces li")).to_have_count(3)
    page.get_by_role("button", name="Heat map").click()
    expect(page.locator(".heat-panel .scale")).to_be_visible()
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert violations(page) == ""
    shoot(page, scheme)
    page.set_input_files("#file", [portrait, group])
    expect(page.locator(".many h2")).to_have_text("2 images")
    assert violations(page) == ""


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_nothing_overflows_at_any_width(open_page: Open, group: Path, shoot, width: int) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", width=width, height=900)
    assert fits(page)
    page.set_input_files("#file", group)
    expect(page.locator(".faces li")).to_have_count(3)
    assert fits(page)
    shoot(page, f"width-{width}")


def test_the_dark_colour_scheme_is_dark(open_page: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert max(open_page("/", color_scheme="dark").evaluate(ground)) < 64
    assert min(open_page("/", color_scheme="light").evaluate(ground)) > 192


def test_a_phone_is_offered_its_camera(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", width=360, height=740, has_touch=True, is_mobile=True)
    photo = page.locator("#photo")
    expect(page.locator(".invitation").get_by_text("Take a photo")).to_be_visible()
    heights = "[...document.querySelectorAll('.button, .pill, .sample')].map((one) => one.offsetHeight).filter(Boolean)"
    assert min(page.evaluate(heights)) >= 44
    assert photo.get_attribute("capture") == "environment"
    photo.set_input_files(portrait)
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")
    assert fits(page)
    shoot(page, "phone")


def test_pages_run_under_a_policy_without_exceptions(open_page: Open) -> None:
    page = open_page("/")
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.locator("[style], style, script:not([src])").count() == 0
