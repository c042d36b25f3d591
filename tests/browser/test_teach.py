"""The teaching of a model in the browser, from its first picture to its answers."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.test_manage import SIZES, check
from tests.conftest import Server
from tests.pictures import encode
from tests.training.transfer.shapes import draw, write_shapes

TRAINING_MILLISECONDS = 400_000
CLASSES = ("discs", "stripes")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ten pictures of each class, in folders."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", 10, CLASSES)


@pytest.fixture(scope="module", autouse=True)
def _others_models_alone(server: Server, models_dir: Path) -> Iterator[None]:
    """Remove the models that are taught here, since other tests share the server and its models."""
    yield
    for name in ("shapes", "shapes-again"):
        if (models_dir / name).exists():
            url = f"http://127.0.0.1:{server.management_port}/models/{name}"
            with urllib.request.urlopen(urllib.request.Request(url, method="DELETE")) as answer:
                assert answer.status == 200
            shutil.rmtree(models_dir / name)


def begin(page: Page, name: str) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    for number, label in enumerate(CLASSES, 1):
        page.get_by_label(f"Class {number}").fill(label)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    page.wait_for_load_state()  # its scripts, which take the files, run before that


def pictures(page: Page, label: str) -> int:
    return page.get_by_label(f"Pictures of {label}").get_by_role("img").count()


def fill(page: Page, shapes: Path) -> None:
    for label in CLASSES:
        page.get_by_label(f"Add pictures of {label}").set_input_files(sorted((shapes / label).iterdir()))
        expect(page.get_by_label(f"Pictures of {label}").get_by_role("img")).to_have_count(10)


def test_a_model_is_taught_tried_and_served(
    open_page: Open, server: Server, shapes: Path, tmp_path: Path, shoot: Callable[[Page, str], None]
) -> None:
    page = open_page("/manage/teach", management=True, width=1280, height=720)
    check(page)
    begin(page, "shapes")
    train = page.get_by_role("button", name="Train", exact=True)
    expect(train).to_be_disabled()
    fill(page, shapes)
    check(page)
    train.click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    check(page)
    expect(page.locator(".accuracy")).to_be_visible(timeout=TRAINING_MILLISECONDS)
    expect(page.get_by_text("20 pictures. Each was predicted by a model trained without it")).to_be_visible()
    expect(page.get_by_role("heading", name="Confusion")).to_be_visible()

    picture = tmp_path / "new.png"
    picture.write_bytes(encode(draw("stripes", 99), "PNG"))
    page.get_by_label("Picture to try").set_input_files(picture)
    expect(page.locator(".tried .bar").first).to_contain_text("stripes")
    page.get_by_role("button", name="Camera", exact=True).click()
    expect(page.locator(".tried canvas")).to_have_count(0)  # the camera's answers have taken its place
    expect(page.locator(".tried .bar").first).to_be_visible()
    page.get_by_role("button", name="Stop the camera").click()
    assert "shapes" not in served_names(server)  # nothing is served before the promotion
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_text("It is served as shapes")).to_be_visible()
    with urllib.request.urlopen(server.url("/predict/shapes"), picture.read_bytes()) as answer:
        assert json.load(answer)["predictions"][0]["class"] == "stripes"
    check(page)
    shoot(page, "teach")

    about = open_page("/about/shapes")
    expect(about.get_by_text("Estimated by 5-fold cross-validation on its 20 training images")).to_be_visible()


def served_names(server: Server) -> list[str]:
    """Return the names of the models that are served."""
    with urllib.request.urlopen(server.url("/predict/")) as answer:
        return [model["model"] for model in json.load(answer)["models"]]


@pytest.mark.slow
def test_a_model_is_taught_again_and_compared_before_it_replaces_the_first(
    open_page: Open, server: Server, shapes: Path, shoot: Callable[[Page, str], None]
) -> None:
    page = open_page("/manage/teach", management=True, width=1280, height=720)
    begin(page, "shapes-again")
    fill(page, shapes)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator(".accuracy")).to_be_visible(timeout=TRAINING_MILLISECONDS)
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_text("It is served as shapes-again")).to_be_visible()
    with urllib.request.urlopen(server.url("/predict/shapes-again")) as answer:
        version = json.load(answer)
    page.get_by_label("Add pictures of discs").set_input_files(
        {"name": "more.png", "mimeType": "image/png", "buffer": encode(draw("discs", 50), "PNG")}
    )
    expect(page.get_by_label("Pictures of discs").get_by_role("img")).to_have_count(11)
    page.get_by_role("button", name="Train again").click()
    expect(page.get_by_role("button", name="Replace the served model")).to_be_visible(timeout=TRAINING_MILLISECONDS)
    expect(page.get_by_text("On the same 21 held-out pictures, the new model corrects")).to_be_visible()
    with urllib.request.urlopen(server.url("/predict/shapes-again")) as answer:
        assert json.load(answer) == version
    check(page)
    for scheme, (width, height) in zip(("light", "dark", "light", "dark"), SIZES, strict=True):
        other = open_page(page.url.partition(str(server.management_port))[2], width, height, True, color_scheme=scheme)
        check(other)
        shoot(other, f"teach-{width}")
        other.context.close()
    page.get_by_role("button", name="Replace the served model").click()
    expect(page.get_by_text("It is served as shapes-again")).to_be_visible()


def test_a_training_is_cancelled(open_page: Open, shapes: Path) -> None:
    page = open_page("/manage/teach", management=True)
    begin(page, "cancelled")
    fill(page, shapes)
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("The training was cancelled.")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_enabled()
    expect(page.locator(".accuracy")).to_have_count(0)


def test_classes_are_filled_by_zip_folder_and_camera_and_corrected(
    open_page: Open, shapes: Path, tmp_path: Path
) -> None:
    page = open_page("/manage/teach", management=True)
    begin(page, "many-ways")
    packed = tmp_path / "discs.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((shapes / "discs").iterdir())[:4]:
            archive.write(path, f"anything/{path.name}")
        archive.writestr("anything/broken.png", b"no picture")
    page.get_by_label("Add pictures of discs").set_input_files(packed)
    expect(page.locator(".toast")).to_contain_text("4 pictures added, 1 refused")
    expect(page.get_by_label("Pictures of discs").get_by_role("img")).to_have_count(4)
    page.get_by_label("Add a folder of pictures of stripes").set_input_files(shapes / "stripes")
    expect(page.get_by_label("Pictures of stripes").get_by_role("img")).to_have_count(10)
    expect(page.get_by_text("discs has 4 pictures; it needs at least 5.")).to_be_visible()

    page.get_by_role("button", name="Take pictures of discs with the camera").click()
    shot = page.get_by_role("button", name="Hold to take pictures")
    expect(shot).to_be_enabled()
    expect(page.locator("dialog video")).to_have_js_property("videoWidth", 640)
    shot.press("Enter")
    expect(page.get_by_text(re.compile(r"^\d+ taken"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Pictures of discs").get_by_role("img")).to_have_count(5)

    page.get_by_role("button", name="Remove discs 1").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Pictures of discs").get_by_role("img")).to_have_count(4)
    for name in ("again", "once more"):
        page.get_by_label("Name of another class").fill(name)
        page.get_by_role("button", name="Add class").click()
        expect(page.get_by_role("heading", name=name, level=2)).to_be_visible()
    page.get_by_label("Change again", exact=True).click()
    page.get_by_label("New name of again").fill("squares")
    page.get_by_role("button", name="Rename").first.click()
    expect(page.get_by_role("heading", name="squares", level=2)).to_be_visible()
    twin = encode(draw("stripes", 1).resize((66, 66)), "PNG")
    page.get_by_label("Add pictures of squares").set_input_files(
        {"name": "twin.png", "mimeType": "image/png", "buffer": twin}
    )
    expect(page.get_by_text("Nearly the same picture is in squares and stripes.")).to_be_visible()
    check(page)
    page.get_by_role("button", name="Delete project").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Teach a model")).to_be_visible()


def test_teaching_works_without_scripts_and_refuses_with_a_reason(open_page: Open, shapes: Path) -> None:
    page = open_page("/manage/teach", management=True, java_script_enabled=False)
    page.get_by_label("Name", exact=True).fill("smile")
    for number, label in enumerate(CLASSES, 1):
        page.get_by_label(f"Class {number}").fill(label)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("Dimple ships")
    begin(page, "plain")
    page.get_by_label("Add pictures of discs").set_input_files(sorted((shapes / "discs").iterdir())[:3])
    page.get_by_role("button", name="Send").first.click()
    expect(page.get_by_label("Pictures of discs").get_by_role("img")).to_have_count(3)


def test_corrections_of_visitors_become_training_pictures(open_page: Open, server: Server, portrait: Path) -> None:
    page = open_page("/about/smile")
    page.get_by_label("Image").set_input_files(portrait)
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("Correct", exact=True).first.click()
    page.get_by_label("Correct label").first.select_option("non-smiling")
    page.get_by_role("button", name="Save").first.click()
    expect(page.get_by_text("Saved").first).to_be_visible()
    manage = open_page("/manage/about/smile", management=True)
    check(manage)
    manage.get_by_role("button", name="Teach a new model from them").click()
    expect(manage.get_by_role("heading", name="smile-taught", level=1)).to_be_visible()
    assert pictures(manage, "non-smiling") == 1
