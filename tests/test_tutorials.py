"""The commands of the tutorials in their order, their code and their answers, compared with the real ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.documents import BLOCK, lay_out, make_photographs, typed
from tests.server.servers import Place, place

PHOTOGRAPHS = (ROOT / "docs" / "tutorial-photographs.md").read_text(encoding="utf-8")
MMS = (ROOT / "docs" / "tutorial-mms.md").read_text(encoding="utf-8")


def type_all(here: Place, commands: str) -> list[str]:
    """Type the lines of a block, each of which must succeed, and return what they print."""
    printed = []
    for line in commands.splitlines():
        if line.startswith("make "):
            subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, capture_output=True, check=True)
            continue
        if line.startswith("cp -r instance/corrections/"):  # what the reader has done on the page
            make_photographs(here, line.split()[2].removesuffix("/."), {"cat": 200}, seed=2)
        done = typed(here, line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        printed.append(done.stdout)
    return printed


def test_a_model_is_moved_from_multi_model_server(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        here.configure()
        lay_out(here)
        printed: list[str] = []
        for kind, body in BLOCK.findall(MMS):
            if kind == "python":
                (here.folder / "faces").mkdir()
                (here.folder / "faces" / "faces_service.py").write_text(body)
            elif kind == "bash":
                printed = type_all(here, body)
            elif kind == "json":
                assert [text.strip() for text in printed] == [body.strip()] * len(printed)
            else:
                assert body in printed[-1]


@pytest.mark.slow
def test_a_classifier_of_photographs_is_trained_served_and_corrected(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        here.use_store()
        lay_out(here)
        make_photographs(here, "my-pictures", {"cat": 220, "dog": 30})
        make_photographs(here, "other-pictures", {"cat": 210, "dog": 40}, seed=1)
        printed: list[str] = []
        for kind, body in BLOCK.findall(PHOTOGRAPHS):
            if kind == "bash":
                printed = type_all(here, body)
            elif kind == "json":
                given, expected = json.loads(printed[-1]), json.loads(body)
                assert (list(given), given["model"]) == (list(expected), "pets")
                assert {item["class"] for item in given["predictions"]} == {"cat", "dog"}
            else:
                first_words = [line.split()[0] for line in body.splitlines() if line and " called " not in line]
                assert set(first_words) <= set(printed[-1].split()), (first_words, printed[-1])
        for name in ("mistakes.png", "confusion.png"):
            assert (here.instance / "reports" / "pets" / name).is_file()


@pytest.mark.parametrize("text", [PHOTOGRAPHS, MMS], ids=["photographs", "mms"])
def test_every_picture_is_small_and_has_a_description(text: str) -> None:
    pictures = [line for line in text.splitlines() if line.startswith("![")]
    assert pictures
    for line in pictures:
        description, _, name = line.removeprefix("![").removesuffix(")").partition("](")
        assert len(description.split()) > 5
        assert (ROOT / "docs" / name).stat().st_size < 100_000
