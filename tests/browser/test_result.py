"""The actions on a result."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Open, follow
from tests.conftest import Server
from tests.helpers import wait_until
from tests.rounding import nearly


@pytest.fixture
def answered(open_page: Open, portrait: Path) -> Page:
    page = open_page("/")
    page.set_input_files("#file", portrait)
    expect(page.locator("article.answer[data-id]")).to_be_visible()
    return page


def corrections(server: Server) -> Path:
    return server.log.parent / "instance" / "corrections"


def centre(element: Locator) -> tuple[float, float]:
    box = element.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_heat_map_lies_over_the_image_for_any_class_with_an_opacity(answered: Page, shoot) -> None:  # type: ignore[no-untyped-def]
    address = answered.url
    expect(answered.get_by_role("button", name="Heat map")).to_be_visible()
    answered.keyboard.press("h")
    layer = answered.locator(".heat-layer")
    expect(layer).to_have_attribute("opacity", "0.8")
    wait_until(lambda: centre(layer) == pytest.approx(centre(answered.locator("g.face rect")), abs=2))
    expect(answered.locator(".scale")).to_contain_text(re.compile(r".\d+ points"))
    answered.get_by_label("Opacity").fill("30")
    expect(layer).to_have_attribute("opacity", "0.3")
    before = layer.get_attribute("href") or ""
    answered.get_by_label("Class", exact=True).select_option("non-smiling")
    expect(layer).not_to_have_attribute("href", before)
    shoot(answered, "heat")
    answered.get_by_role("button", name="Heat map").click()
    expect(layer).to_have_count(0)
    assert answered.url == address


def test_every_face_has_its_heat_map(open_page: Open, group: Path) -> None:
    page = open_page("/")
    page.set_input_files("#file", group)
    page.locator(".faces [data-face='3']").click()
    expect(page.get_by_label("Face", exact=True)).to_have_value("3")
    left = page.locator("g.face[data-face='3'] rect").bounding_box()
    heat = page.locator(".heat-layer").bounding_box()
    assert left and heat
    assert heat["x"] < left["x"] < heat["x"] + heat["width"]


def test_the_displayed_input_has_the_size_of_the_models_input(answered: Page) -> None:
    answered.get_by_text(re.compile(r"Model input \(64 . 64\)")).click()
    expect(answered.locator(".seen img")).to_have_js_property("naturalWidth", 64)


def test_another_browser_can_view_a_result_by_its_url_but_not_change_it(answered: Page, open_page: Open) -> None:
    address = answered.locator("a.share").get_attribute("href") or ""
    other = open_page(address)
    expect(other.locator("article.answer h2")).to_contain_text("Smiling")
    assert other.locator("form.delete, .correct").count() == 0
    assert answered.locator("form.delete").count() == 1


def test_the_code_examples_of_a_result_give_the_same_answer(answered: Page, server: Server, portrait: Path) -> None:
    answered.get_by_text("Use it from code").click()
    curl = answered.get_by_label("curl", exact=True).locator("pre").inner_text()
    assert server.url("/predict/smile") in curl
    answered.get_by_role("tab", name="curl").focus()
    answered.keyboard.press("ArrowRight")
    python = answered.locator("pre[aria-label=Python]").inner_text()
    answered.get_by_role("tab", name="Answer").click()
    displayed = json.loads(answered.get_by_label("Answer as JSON").inner_text())
    done = subprocess.run(curl, shell=True, cwd=portrait.parent, capture_output=True, check=True)
    assert json.loads(done.stdout)["predictions"] == nearly(displayed["predictions"])
    names: dict[str, Any] = {}
    exec(python.replace('"portrait.jpg"', repr(str(portrait))), names)
    assert names["response"].json()["predictions"] == nearly(displayed["predictions"])


def test_a_correction_is_saved_listed_exported_and_deleted_with_its_image(answered: Page, server: Server) -> None:
    identity = answered.locator("article.answer").get_attribute("data-id") or ""
    answered.get_by_text("Correct", exact=True).click()
    answered.get_by_label("Correct label").select_option("non-smiling")
    answered.get_by_role("button", name="Save correction").click()
    expect(answered.locator(".correct .notice")).to_contain_text(
        re.compile(r"Saved as Not smiling: \d+ corrections? of smile so far")
    )
    (correction,) = (corrections(server) / "smile" / "non-smiling").glob(f"{identity}-1-*.png")
    follow(answered, "View yours")
    expect(answered.locator("tbody tr")).to_have_count(1)
    with answered.expect_download() as download:
        answered.get_by_role("link", name="Download as zip").click()
    assert download.value.path().stat().st_size > correction.stat().st_size
    answered.go_back()
    answered.get_by_role("button", name="Delete").click()
    expect(answered.locator(".placeholder")).to_be_visible()
    answered.get_by_role("button", name="Undo").click()
    expect(answered.locator("article.answer h2")).to_contain_text("Smiling")
    assert correction.exists()
    answered.keyboard.press("Delete")
    expect(answered.get_by_role("button", name="Undo")).to_be_visible()
    follow(answered, "Recent", exact=True)  # leaving the page ends the time for "Undo"
    expect(answered.locator(".recent li:visible")).to_have_count(0)
    wait_until(lambda: not correction.exists())
    assert not list((server.log.parent / "uploads").glob(f"{identity}*"))


def test_one_of_a_thousand_classes_is_found_by_typing(open_page: Open, server: Server) -> None:
    page = open_page("/")
    page.click("button.sample[value=coffee]")
    expect(page.locator("article.answer h2")).to_contain_text("Espresso")
    page.get_by_text("Correct", exact=True).click()
    field = page.get_by_label("Correct label")
    expect(field).to_have_role("combobox")
    field.fill("american eag")
    expect(page.get_by_role("option")).to_have_text("Bald eagle American eagle, Haliaeetus leucocephalus")
    field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value("Bald eagle")
    field.press("Enter")
    expect(page.locator(".correct .notice")).to_contain_text("Saved as Bald eagle")
    identity = page.locator("article.answer").get_attribute("data-id")
    assert len(list(corrections(server).glob(f"imagenet/n01614925 bald eagle*/{identity}-1-*.jpg"))) == 1


def test_a_class_typed_before_the_script_has_arrived_is_found(open_page: Open) -> None:
    page = open_page("/")
    page.click("button.sample[value=coffee]")
    expect(page.locator("article.answer h2")).to_contain_text("Espresso")
    held: list[Route] = []
    page.route("**/combobox.js", lambda route: held.append(route))
    with page.expect_request("**/combobox.js"):
        page.get_by_text("Correct", exact=True).click()
    field = page.get_by_label("Correct label")
    field.fill("american eag")
    held[0].continue_()
    expect(page.get_by_role("option")).to_contain_text("Bald eagle")
    expect(field).to_be_focused()
    field.press_sequentially("le")
    expect(field).to_have_value("american eagle")


def test_recent_images_are_listed_and_deleted(answered: Page, shoot) -> None:  # type: ignore[no-untyped-def]
    answered.click("button.sample[value=chelsea]")
    expect(answered.locator("article.answer h2")).to_contain_text("Cat")
    answered.keyboard.press("ArrowRight")
    expect(answered.locator("article.answer h2")).to_contain_text("Smiling")
    follow(answered, "Recent", exact=True)
    visible_rows = answered.locator(".recent li:visible")
    expect(visible_rows).to_have_count(2)
    shoot(answered, "recent")
    answered.get_by_role("button", name="Delete chelsea.jpg").click()
    expect(visible_rows).to_have_count(1)
    answered.get_by_role("button", name="Undo").click()
    expect(visible_rows).to_have_count(2)
    answered.get_by_role("button", name="Delete all").click()
    answered.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    expect(answered.locator("main")).to_contain_text("No images yet")
