"""What can be done with an answer, in a browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.conftest import Server


@pytest.fixture
def answered(open_page: Open, portrait: Path) -> Page:
    page = open_page("/")
    page.set_input_files("#file", portrait)
    expect(page.locator("#answers .result")).to_be_visible()
    return page


def test_the_heat_map_takes_the_pictures_place_and_goes_again(answered: Page, shoot) -> None:  # type: ignore[no-untyped-def]
    answered.click("a.why")
    expect(answered.locator("img.heat")).to_be_visible()
    expect(answered.locator("figure.main svg")).to_be_hidden()
    shoot(answered, "why")
    answered.click("a.why")
    expect(answered.locator("img.heat")).to_be_hidden()
    expect(answered.locator("figure.main svg")).to_be_visible()


def test_what_the_network_saw_has_its_input_size(answered: Page) -> None:
    seen = answered.locator(".seen img")
    seen.scroll_into_view_if_needed()
    expect(seen).to_have_js_property("naturalWidth", 64)


def test_another_browser_sees_the_result_by_its_address_and_cannot_change_it(answered: Page, open_page: Open) -> None:
    address = answered.locator("a.share").get_attribute("href") or ""
    other = open_page(address)
    expect(other.locator("h2")).to_contain_text("Smiling")
    assert other.locator("form.delete, form.correct").count() == 0
    assert answered.locator("form.delete").count() == 1


def test_the_command_and_the_json_are_one_click_away_and_say_the_same(
    answered: Page, server: Server, portrait: Path
) -> None:
    answered.get_by_text("For programs", exact=True).click()
    shown = json.loads(answered.get_by_label("Answer as JSON").inner_text())
    command = answered.get_by_label("Command").inner_text()
    assert server.url("/predict/smile") in command
    done = subprocess.run(command, shell=True, cwd=portrait.parent, capture_output=True, check=True)
    assert json.loads(done.stdout)["predictions"] == shown["predictions"]


def test_another_model_is_asked_about_the_same_picture(answered: Page) -> None:
    answered.get_by_text("Ask another model").click()
    answered.get_by_role("button", name="dogcat").click()
    expect(answered.locator("#answers .result")).to_have_count(2)
    expect(answered.locator("#answers .result").first).to_contain_text("dogcat 1.0")


def test_a_correction_is_kept_where_training_takes_it(answered: Page, server: Server) -> None:
    answered.get_by_text("Wrong?").click()
    answered.get_by_label("The right label").select_option("non-smiling")
    answered.get_by_role("button", name="Keep it to train on").click()
    expect(answered.locator(".correct .note")).to_contain_text("non-smiling")
    identity = answered.locator(".result").get_attribute("data-id")
    kept = server.log.parent / "instance" / "corrections" / "smile" / "non-smiling" / f"{identity}-1.png"
    assert kept.is_file()


def test_recent_pictures_are_listed_and_deleted(answered: Page, shoot) -> None:  # type: ignore[no-untyped-def]
    answered.click("button.sample[value=chelsea]")
    expect(answered.locator("#answers .result")).to_have_count(2)
    answered.get_by_role("link", name="Recent").click()
    expect(answered.locator(".recent li")).to_have_count(2)
    shoot(answered, "recent")
    answered.get_by_role("button", name="Delete chelsea.jpg").click()
    expect(answered.locator(".recent li")).to_have_count(1)
    answered.get_by_text("Delete all", exact=True).click()
    answered.get_by_role("button", name="Delete them all").click()
    expect(answered.locator("main")).to_contain_text("Nothing that this browser has sent is kept")
