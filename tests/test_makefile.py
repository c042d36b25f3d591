"""The files that make removes, and the files that it keeps."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from app.settings import ROOT

STAYS = {
    "tokens.json",
    "registry.json",
    "archives/a/b",
    "uploaded/a/b",
    "corrections/smile/smiling/a.png",
    "settings.env",
}
GOES = {"cache/a", "logs/server.log", "metrics/a", "rates.table", "reports/a"}


def test_make_clean_keeps_user_data(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    for name in STAYS | GOES:
        path = tmp_path / "instance" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    left = {
        str(path.relative_to(tmp_path / "instance")) for path in (tmp_path / "instance").rglob("*") if path.is_file()
    }
    assert left == STAYS
    assert not (tmp_path / ".venv").exists()
    shutil.rmtree(tmp_path / "instance")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
