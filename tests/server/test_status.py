"""The message that the server is ready."""

from __future__ import annotations

from app.server.status import Greeting
from app.settings import VERSION, Settings


def test_the_line_has_urls_for_a_browser_and_the_number_of_models() -> None:
    greeting = Greeting(Settings(host="0.0.0.0", port=9000, management_port=9001), models=3, failed=0, stop="Ctrl-C")
    expected = (
        f"Dimple {VERSION} is ready at http://localhost:9000, management at http://localhost:9001/manage, models: 3"
    )
    assert greeting.line() == expected


def test_the_box_is_a_rectangle_with_the_same_facts_and_the_stop_command() -> None:
    lines = (
        Greeting(Settings(management_host="unix:/run/dimple"), models=2, failed=1, stop="dimple stop").box().split("\n")
    )
    assert len({len(line) for line in lines}) == 1
    facts = [line.strip("│ ").split(maxsplit=1) for line in lines[3:-1]]
    assert facts == [
        ["Page", "http://localhost:8080"],
        ["Management", "unix:/run/dimple"],
        ["Models", "2, and 1 failed to load"],
        ["Stop", "dimple stop"],
    ]
