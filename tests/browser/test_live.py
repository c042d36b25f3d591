"""The camera page, with a video of a smiling face."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Open, follow
from tests.conftest import Server


def uploads(server: Server) -> set[Path]:
    folder = server.log.parent / "uploads"
    return set(folder.iterdir()) if folder.exists() else set()


def test_a_face_before_the_camera_is_framed_and_no_video_frame_is_stored(
    open_page: Open, server: Server, shoot
) -> None:  # type: ignore[no-untyped-def]
    before = uploads(server)
    page = open_page("/live")
    expect(page.locator("#before")).to_contain_text("a frame around every face")
    page.click("#start")
    expect(page.locator("#said")).to_contain_text(re.compile(r"1 Smiling\s*\d+%"))
    expect(page.locator("#frames .face.smiling")).to_have_count(1)
    expect(page.locator("#rate")).to_contain_text("frames/s")
    with page.expect_response("**/predict/**"), page.expect_response("**/predict/**"):
        pass
    expect(page.locator("#frames .face")).to_have_attribute("data-face", "1")  # the same face, not the third face
    shoot(page, "live")
    page.click("#stop")
    expect(page.locator("#mirror")).to_be_hidden()
    assert uploads(server) == before


def test_any_model_classifies_the_camera_image(open_page: Open) -> None:
    page = open_page("/live")
    follow(page, "dogcat")
    page.click("#start")
    expect(page.locator("#said .bar")).to_have_count(2)
    expect(page.locator("#frames .face")).to_have_count(0)


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
    page.click("#stop")
    expect(page.locator("#gate")).to_have_attribute("data-open", "false")


FOLLOWED = """
async (frames) => {
  const { follow, forget } = await import("/static/js/tracks.js");
  forget();
  const face = ([x, y, side, smile]) => ({ box: { x, y, width: side, height: side }, smile });
  return frames.map((faces) => follow(faces.map(face)))
    .map((faces) => faces.map(({ id, box, smile }) => [id, box.x, smile]));
}
"""


def test_faces_keep_their_numbers_while_they_move_and_when_they_are_missed_for_a_moment(open_page: Open) -> None:
    page = open_page("/live")
    left, right = [100, 50, 40, 1.0], [300, 50, 40, 0.0]
    frames = [
        [left, right],
        [[310, 50, 40, 0.0], [104, 50, 40, 0.5]],
        [right],
        [right],
        [right],
        [right],
        [left, right],
    ]
    numbers = [[face[0] for face in faces] for faces in page.evaluate(FOLLOWED, frames)]
    assert numbers == [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [2], [2, 3]]


def test_a_box_moves_half_the_distance_to_avoid_flicker(open_page: Open) -> None:
    page = open_page("/live")
    followed = page.evaluate(FOLLOWED, [[[100, 50, 40, 1.0]], [[104, 50, 40, 0.5]], [[100, 50, 40, 0.5]]])
    assert followed == [[[1, 100, 1.0]], [[1, 102, 0.75]], [[1, 101, 0.625]]]
