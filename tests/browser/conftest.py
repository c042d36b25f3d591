"""A browser with the page of a real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.settings import ROOT
from tests.conftest import Server
from tests.pictures import astronaut, encode, plain

SHOTS = ROOT / "instance" / "screenshots"
FRAMES = 5
WAIT_MILLISECONDS = 60_000
"""Far longer than a busy machine takes: Playwright's own 5 s are not."""
expect.set_options(timeout=WAIT_MILLISECONDS)
SENTENCES_OF_ERRORS = ("Failed to load resource",)
"""What the browser says of an answer of 4xx, which tests ask for."""


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the video of the camera: the smiling astronaut, as YUV4MPEG2 (4:2:0) of 640 x 480."""
    image = astronaut().crop((80, 0, 400, 240)).resize((640, 480))
    luma, blue, red = image.convert("YCbCr").split()
    half = (320, 240)
    frame = b"FRAME\n" + luma.tobytes() + blue.resize(half).tobytes() + red.resize(half).tobytes()
    path = tmp_path_factory.mktemp("camera") / "smile.y4m"
    path.write_bytes(b"YUV4MPEG2 W640 H480 F10:1 Ip A1:1 C420jpeg\n" + frame * FRAMES)
    return path


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "portrait.jpg"
    path.write_bytes(encode(astronaut()))
    return path


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the smiling astronaut twice, and once with her mouth hidden, which is not a smile."""
    face = astronaut().crop((120, 0, 320, 220))
    serious = face.copy()
    serious.paste(face.crop((80, 110, 130, 125)).resize((60, 28)), (74, 134))
    picture = Image.new("RGB", (900, 320), "grey")
    for place, item in zip((40, 340, 640), (face, serious, face), strict=True):
        picture.paste(item, (place, 50))
    path = tmp_path_factory.mktemp("pictures") / "group.png"
    path.write_bytes(encode(picture, "PNG"))
    return path


@pytest.fixture(scope="session")
def empty_wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "wall.png"
    path.write_bytes(encode(plain(200, 150), "PNG"))
    return path


@pytest.fixture(scope="session")
def browser(video: Path) -> Iterator[Browser]:
    """Yield the system's Chromium, with a camera that shows the video without a permission prompt.

    Its headless shell is preferred, because a window of the complete Chromium takes four times the processor time.
    """
    arguments = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    ]
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Open]:
    """Open a page of the server as a new visitor, in a window of some kind. At the end of the test: no request was sent
    to another host, no script failed, and no policy was broken.
    """
    contexts: list[BrowserContext] = []
    elsewhere: list[str] = []
    complaints: list[str] = []

    def asks(url: str) -> None:
        if not url.startswith((server.url("/"), f"http://127.0.0.1:{server.management_port}/", "data:")):
            elsewhere.append(url)

    def says(text: str) -> None:
        if not text.startswith(SENTENCES_OF_ERRORS):
            complaints.append(text)

    def open_one(path: str, width: int = 1200, height: int = 850, management: bool = False, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MILLISECONDS)
        page = context.new_page()
        page.on("request", lambda request: asks(request.url))
        page.on("console", lambda message: says(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.management_port}{path}" if management else server.url(path))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert complaints == []


def follow(page: Page, link: str, exact: bool = False) -> None:
    """Follow a link, and wait for the scripts of the page behind it: an earlier click would act as without scripts."""
    with page.expect_navigation():
        page.get_by_role("link", name=link, exact=exact).click()


@pytest.fixture
def shoot() -> Callable[[Page, str], None]:
    """Save a picture of the whole page for people, if SCREENSHOTS=1 is set."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        if os.environ.get("SCREENSHOTS"):
            page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)

    return take
