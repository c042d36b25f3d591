"""The login, in a browser, at the prediction port of a server that requires tokens."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from app.security.tokens import add_token
from tests.conftest import Server


def test_a_user_with_a_token_logs_in_predicts_and_logs_out(
    browser: Browser, models_dir: Path, tmp_path: Path, portrait: Path
) -> None:
    token = add_token(tmp_path / "instance" / "tokens.json", "page", "prediction")
    server = Server(models_dir, tmp_path, DIMPLE_PREDICTION_TOKENS="true", DIMPLE_LOAD_MODELS="smile")
    context = browser.new_context()
    try:
        server.wait_until_ready()
        page = context.new_page()
        page.goto(server.url("/recent"))
        assert Axe().run(page).violations_count == 0
        page.get_by_label("Access token (prediction)").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("The token is not known")
        page.get_by_label("Access token (prediction)").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(server.url("/recent"))
        page.goto(server.url("/"))
        page.set_input_files("#file", portrait)
        expect(page.locator("article.answer h2")).to_contain_text("Smiling")
        assert page.evaluate("document.cookie") == ""  # no script reads it
        page.get_by_text("Use it from code").click()
        curl = page.get_by_label("curl", exact=True).locator("pre").inner_text()
        assert token not in page.content()
        environ = {**os.environ, "DIMPLE_TOKEN": token}
        done = subprocess.run(curl, shell=True, cwd=portrait.parent, env=environ, capture_output=True, check=True)
        assert json.loads(done.stdout)["predictions"][0]["class"] == "smiling"
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(server.url("/login"))
        page.goto(server.url("/"))
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    finally:
        context.close()
        server.stop()
