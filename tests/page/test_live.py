"""The camera, which sees a video of somebody who smiles."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.conftest import Server
from tests.page.conftest import Open


def kept(server: Server) -> set[Path]:
    folder = server.log.parent / "uploads"
    return set(folder.iterdir()) if folder.exists() else set()


def test_a_face_before_the_camera_is_framed_with_its_smile_and_no_frame_is_kept(
    open_page: Open, server: Server, shoot
) -> None:  # type: ignore[no-untyped-def]
    before = kept(server)
    page = open_page("/live")
    page.click("#start")
    expect(page.locator("#smiles")).to_contain_text("Face 1")
    expect(page.locator("#frames .face.smiling")).to_have_count(1)
    shoot(page, "live")
    page.click("#start")
    expect(page.locator("#camera")).to_be_hidden()
    assert kept(server) == before


def test_the_gate_opens_after_a_second_of_smiles_and_not_before(open_page: Open, shoot) -> None:  # type: ignore[no-untyped-def]
    page = open_page("/gate")
    expect(page.locator("#gate")).to_have_attribute("data-open", "false")
    page.evaluate(
        """() => {
          window.held = [];
          new MutationObserver(() => held.push([performance.now(), gate.dataset.open, verdict.textContent]))
            .observe(document.querySelector(".gate"), { attributes: true, childList: true, subtree: true });
        }"""
    )
    page.click("#start")
    expect(page.locator("#gate")).to_have_attribute("data-open", "true")
    expect(page.locator("#verdict")).to_contain_text("Open")
    seen = page.evaluate("held")
    smiling = next(time for time, _, verdict in seen if verdict.startswith("Keep smiling"))
    opened = next(time for time, open_, _ in seen if open_ == "true")
    assert opened - smiling >= 990  # milliseconds; the observer is told a moment later
    shoot(page, "gate")
    page.click("#start")
    expect(page.locator("#gate")).to_have_attribute("data-open", "false")
