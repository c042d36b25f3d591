"""Choose, drop, paste, photograph: the first page, with scripts."""

from __future__ import annotations

import base64
import re
from pathlib import Path

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


def transfer(page: Page, path: Path):  # type: ignore[no-untyped-def]
    """What the browser carries while a file is dragged or pasted."""
    return page.evaluate_handle(TRANSFER, {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()})


def test_a_chosen_picture_gets_its_answer_in_place(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/")
    page.set_input_files("#file", portrait)
    answer = page.locator("#answers .result")
    expect(answer.locator("h2")).to_contain_text("Smiling")
    expect(answer.locator("g.face rect")).to_have_count(1)
    expect(answer.locator("g.face text")).to_have_text(re.compile(r"^Smiling \d+ %$"))
    expect(page.locator("#status")).to_contain_text("Smiling")
    # the face's frame of the README's answer, give or take what a processor's last bits move
    assert abs(int(answer.locator("g.face rect").get_attribute("x") or 0) - 180) <= 3
    shoot(page, "answer")


def test_a_dropped_picture_is_taken(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer(page, portrait)})
    expect(page.locator("#answers .result h2")).to_contain_text("Smiling")


def test_a_pasted_picture_is_taken(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    paste = (
        "(data) => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }))"
    )
    page.evaluate(paste, transfer(page, portrait))
    expect(page.locator("#answers .result h2")).to_contain_text("Smiling")


def test_several_pictures_are_answered_one_by_one_and_a_bad_one_spoils_none(
    open_page: Open, portrait: Path, empty_wall: Path, tmp_path: Path
) -> None:
    page = open_page("/")
    text = tmp_path / "letter.jpg"
    text.write_text("Dear Sir or Madam")
    page.set_input_files("#file", [portrait, text, empty_wall])
    expect(page.locator("#answers .result")).to_have_count(2)
    expect(page.locator("#answers [role=alert]")).to_contain_text("it looks like text")
    expect(page.locator("#answers h2", has_text="No face was found")).to_have_count(1)
    expect(page.locator("#answers .anyway .bars")).to_be_hidden()
    page.get_by_text("Classify the whole picture anyway").click()
    expect(page.locator("#answers .anyway .bars")).to_be_visible()


def test_several_faces_are_a_row_each_with_a_summary(open_page: Open, group: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/")
    page.set_input_files("#file", group)
    answer = page.locator("#answers .result")
    expect(answer.locator("h2")).to_have_text("2 of 3 smiling")
    expect(answer.locator(".faces li")).to_have_count(3)
    expect(answer.locator(".faces .kind-1")).to_have_count(2)
    expect(answer.locator("g.face.kind-1")).to_have_count(2)
    expect(answer.locator("g.face.kind-0 text")).to_contain_text("Not smiling")
    shoot(page, "group")


def test_a_sample_is_asked_of_the_model_that_it_is_good_for(open_page: Open) -> None:
    page = open_page("/")
    page.click("button.sample[value=chelsea]")
    expect(page.locator("#answers .result h2")).to_contain_text("cat")
    assert page.url.endswith("/")


def test_the_picture_is_seen_before_it_is_sent(open_page: Open, server: Server, portrait: Path) -> None:
    page = open_page("/")
    seen = []

    def look_before_it_is_sent(route: Route) -> None:
        expect(page.locator(".coming canvas")).to_have_js_property("width", 480)
        expect(page.locator(".coming progress")).to_be_visible()
        seen.append(route.request.url)
        route.continue_()

    page.route("**/file/", look_before_it_is_sent)
    page.set_input_files("#file", portrait)
    expect(page.locator("#answers .result h2")).to_contain_text("Smiling")
    assert seen == [server.url("/file/")]


def test_what_is_too_large_is_said_at_once_with_the_limit(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/")
    path = tmp_path / "large.jpg"
    path.write_bytes(noise(2600, 2600))
    assert path.stat().st_size > 4 * 2**20
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_input_files("#file", path)
    expect(page.locator("#answers [role=alert]")).to_contain_text("at most 4.0 MB are allowed")
    assert [url for url in asked if url.endswith("/file/")] == []


def test_a_busy_model_is_asked_again_when_the_server_said(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
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
    shoot(page, "busy")
    expect(page.locator("#answers .result h2")).to_contain_text("Smiling")
    assert refused == 2


def test_a_server_that_is_gone_is_said_and_can_be_tried_again(open_page: Open, portrait: Path, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/")
    page.route("**/file/", lambda route: route.abort())
    page.set_input_files("#file", portrait)
    expect(page.locator("#answers [role=alert]")).to_contain_text("cannot be reached")
    shoot(page, "error")
    page.unroute("**/file/")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#answers .result h2")).to_contain_text("Smiling")


def test_file_names_with_markup_are_text(open_page: Open, portrait: Path) -> None:
    page = open_page("/")
    name = "<img src=x onerror=alert(1)>.jpg"
    page.set_input_files("#file", [{"name": name, "mimeType": "image/jpeg", "buffer": portrait.read_bytes()}])
    expect(page.locator("#answers figcaption").first).to_contain_text(name)
    assert page.locator("img[src=x]").count() == 0


def test_the_first_view_is_light(open_page: Open, server: Server) -> None:
    page = open_page("/healthz")
    sizes: list[int] = []
    page.on(
        "requestfinished",
        lambda request: sizes.append(sum(request.sizes()[k] for k in ("responseBodySize", "responseHeadersSize"))),
    )
    page.goto(server.url("/"), wait_until="networkidle")
    assert len(sizes) >= 9  # the page, its style, three scripts, four samples
    assert sum(sizes) < 100_000
