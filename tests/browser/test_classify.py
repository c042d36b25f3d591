"""The ways to choose an image, and its result beside it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Open
from tests.conftest import Server
from tests.pictures import noise

TRANSFER = """
    ({ name, data }) => {
      const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
      return transfer;
    }
"""
SHIFTS = """() => {
  window.shifts = 0;
  new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shifts += one.value; })
    .observe({ type: "layout-shift", buffered: true });
}"""


def transfer(page: Page, path: Path):  # type: ignore[no-untyped-def]
    """Return what the browser carries while a file is dragged or pasted."""
    return page.evaluate_handle(TRANSFER, {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()})


def in_view(page: Page, selector: str) -> bool:
    """Return whether an element is completely in the window."""
    box = page.locator(selector).first.bounding_box()
    size = page.viewport_size
    assert box and size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"]


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (360, 740)])
def test_the_result_scrolls_into_view_with_focus_and_nothing_shifts(
    open_page: Open, portrait: Path, shoot, width: int, height: int
) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/", width=width, height=height, reduced_motion="reduce")
    expect(page.locator(".placeholder")).to_contain_text("The answer appears here")
    page.evaluate(SHIFTS)
    page.set_input_files("#file", portrait)
    answer = page.locator("article.answer[data-id]")
    expect(answer.locator("h2")).to_have_text(re.compile(r"^Smiling\s+\d\d\.\d%$"))
    expect(answer).to_be_focused()
    for selector in (".verdict h2", ".verdict .bar", ".answer .actions"):
        assert in_view(page, selector), selector
    assert in_view(page, ".picture")
    image, text = page.locator(".picture").bounding_box(), answer.bounding_box()
    assert image and text
    assert (text["x"] >= image["x"] + image["width"]) == (width >= 900)
    assert page.evaluate("shifts") < 0.01
    shoot(page, f"answer-{width}")


def test_the_url_is_that_of_the_result_and_reload_and_back_keep_it(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    page.set_input_files("#file", portrait)
    expect(page).to_have_url(re.compile(r"/result/[0-9a-f]{32}$"))
    first = page.url
    heading = page.locator("article.answer h2")
    expect(heading).to_contain_text("Smiling")
    page.reload()
    expect(heading).to_contain_text("Smiling")
    page.click("button.sample[value=chelsea]")
    expect(heading).to_contain_text("Cat")
    expect(page.locator("input[value=dogcat]")).to_be_checked()  # a sample selects the model that it suits
    page.go_back()
    expect(heading).to_contain_text("Smiling")
    expect(page).to_have_url(first)
    expect(page.locator("input[value=smile]")).to_be_checked()
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".placeholder")).to_be_visible()
    assert page.url.endswith("/")
    page.locator("#models .pill", has_text="dogcat").click()
    page.reload()
    expect(page.locator("input[value=dogcat]")).to_be_checked()  # the last choice


def test_another_model_answers_for_the_same_image(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    page.set_input_files("#file", portrait)
    expect(page.locator("article.answer")).to_have_attribute("data-model", "smile")
    page.keyboard.press("2")
    expect(page.locator("article.answer")).to_have_attribute("data-model", "dogcat")
    expect(page.locator(".picture svg image")).to_be_visible()


def test_a_face_is_framed_at_its_position(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    page.set_input_files("#file", portrait)
    expect(page.locator("g.face text")).to_have_text(re.compile(r"^Smiling \d+%$"))
    # the face's frame of the README's answer, give or take what a processor's last bits move
    assert abs(int(page.locator("g.face rect").get_attribute("x") or 0) - 180) <= 3
    expect(page.locator("#status")).to_contain_text("Smiling")


def test_dropped_and_pasted_images_are_accepted(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    page.dispatch_event("#stage", "drop", {"dataTransfer": transfer(page, portrait)})
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".placeholder")).to_be_visible()
    paste = (
        "(data) => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }))"
    )
    page.evaluate(paste, transfer(page, portrait))
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")


def test_each_of_several_faces_has_a_row_that_highlights_its_frame(open_page: Open, group: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/")
    page.set_input_files("#file", group)
    answer = page.locator("article.answer")
    expect(answer.locator("h2")).to_have_text("2 of 3 smiling")
    expect(answer.locator(".faces li")).to_have_count(3)
    expect(answer.locator(".faces .kind-1")).to_have_count(2)
    expect(page.locator("g.face.kind-1")).to_have_count(2)
    expect(page.locator("g.face.kind-0 text")).to_contain_text("Not smiling")
    answer.locator(".faces [data-face='2']").hover()
    expect(page.locator("g.face.linked")).to_have_attribute("data-face", "2")
    page.locator("g.face[data-face='3'] rect").hover(force=True)
    expect(answer.locator(".faces .linked")).to_have_attribute("data-face", "3")
    shoot(page, "group")


def test_an_image_without_faces_is_classified_only_on_request(open_page: Open, empty_wall: Path) -> None:
    page = open_page("/")
    page.set_input_files("#file", empty_wall)
    expect(page.locator("h2", has_text="No face found")).to_be_visible()
    expect(page.locator(".anyway .bar")).to_be_hidden()
    page.get_by_text("Classify the whole image anyway").click()
    expect(page.locator(".anyway .bar")).to_be_visible()


def test_models_are_compared_side_by_side_at_a_shareable_url(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/")
    page.set_input_files("#file", portrait)
    expect(page.locator("article.answer")).to_have_attribute("data-model", "smile")
    page.get_by_role("button", name="Compare").click()
    page.locator("#models .pill", has_text="dogcat").click()
    verdicts = page.locator(".verdict")
    expect(verdicts).to_have_count(2)
    expect(page).to_have_url(re.compile(r"with=dogcat$"))
    left, right = (verdicts.nth(place).bounding_box() for place in (0, 1))
    assert left and right
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    shoot(page, "compare")
    page.reload()
    expect(verdicts).to_have_count(2)
    page.get_by_role("button", name="Compare").click()
    expect(verdicts).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/result/[0-9a-f]{32}$"))


def test_the_image_is_previewed_before_it_is_sent(open_page: Open, server: Server, portrait: Path) -> None:
    page = open_page("/")
    seen = []

    def look_before_it_is_sent(route: Route) -> None:
        expect(page.locator("#stage canvas")).to_have_js_property("width", 512)
        expect(page.locator(".coming progress")).to_be_visible()
        seen.append(route.request.url)
        route.continue_()

    page.route("**/file/", look_before_it_is_sent)
    page.set_input_files("#file", portrait)
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")
    assert seen == [server.url("/file/")]


def test_an_unusable_file_is_explained_without_a_retry_button(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/")
    large, text = tmp_path / "large.jpg", tmp_path / "letter.jpg"
    large.write_bytes(noise(2600, 2600))
    text.write_text("Dear Sir or Madam")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.set_input_files("#file", large)
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"^\d+(\.\d+)? MB is over the 4 MB limit"))
    assert [url for url in requests if url.endswith("/file/")] == []
    page.set_input_files("#file", text)
    expect(page.get_by_role("alert")).to_contain_text("it looks like text")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_a_request_to_a_busy_model_is_retried_after_the_stated_delay(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    refused = 0

    def refuse_twice(route: Route) -> None:
        nonlocal refused
        if refused == 2:
            route.continue_()
            return
        refused += 1
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"message": "busy"})

    page.route("**/file/", refuse_twice)
    page.set_input_files("#file", portrait)
    expect(page.locator(".coming")).to_contain_text("busy; trying again in 1 s")
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")
    assert refused == 2


def test_an_unreachable_server_is_reported_with_a_retry_button(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/")
    page.route("**/file/", lambda route: route.abort())
    page.set_input_files("#file", portrait)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    shoot(page, "error")
    page.unroute("**/file/")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("article.answer h2")).to_contain_text("Smiling")


def test_file_names_with_markup_are_text(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    name = "<img src=x onerror=alert(1)>.jpg"
    page.set_input_files("#file", [{"name": name, "mimeType": "image/jpeg", "buffer": portrait.read_bytes()}])
    expect(page.locator("figcaption").first).to_contain_text(name)
    assert page.locator("img[src=x]").count() == 0


def test_the_first_page_view_loads_few_bytes(open_page: Open, server: Server) -> None:
    page = open_page("/healthz")
    sizes: list[int] = []
    page.on(
        "requestfinished",
        lambda request: sizes.append(sum(request.sizes()[k] for k in ("responseBodySize", "responseHeadersSize"))),
    )
    page.goto(server.url("/"), wait_until="networkidle")
    assert len(sizes) >= 12  # the page, three styles, five scripts, three samples
    assert sum(sizes) < 80_000
