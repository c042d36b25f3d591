"""The progress of an installation, with a pip that prints what a real one prints and installs nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT

PIP = '''
import sys
print(" ".join(sys.argv[1:]), file=sys.stderr)
print("""Processing /index/werkzeug/werkzeug-3.1.9-py3-none-any.whl
Collecting Flask==3.1.3 (from -r requirements.txt (line 2))
  Downloading flask-3.1.3-py3-none-any.whl (103 kB)
Requirement already satisfied: numpy in ./lib (1.26.4)
Installing collected packages: werkzeug, Flask
Successfully installed Flask-3.1.3 werkzeug-3.1.9""")
sys.exit(int(sys.argv[-1]))
'''


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").write_text("")
    (tmp_path / "pip" / "__main__.py").write_text(PIP)
    return os.environ | {"PYTHONPATH": str(tmp_path)}


def command(status: int) -> list[str]:
    return [sys.executable, str(ROOT / "bin" / "_install.py"), "-r", "requirements.txt", str(status)]


def test_a_log_gets_one_line_and_options_are_passed_to_pip(environ: dict[str, str]) -> None:
    done = subprocess.run(command(0), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    options, outcome = done.stderr.splitlines()
    assert options.startswith("install ") and options.endswith(" -r requirements.txt 0")
    assert outcome.startswith("Installed 2 packages in ")


def test_the_exit_status_of_pip_is_passed_on_without_a_success_message(environ: dict[str, str]) -> None:
    done = subprocess.run(command(2), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Installed" not in done.stderr


def test_on_a_terminal_one_line_counts_the_packages(environ: dict[str, str]) -> None:
    reading, writing = pty.openpty()
    done = subprocess.run(command(0), env=environ, stderr=writing, timeout=60, check=False)
    os.close(writing)
    output = os.read(reading, 65536).decode()
    os.close(reading)
    assert done.returncode == 0
    counts = [text.partition("\r")[0] for text in output.split("Installing packages, first start only: ")[1:]]
    assert counts == ["1 found, now werkzeug", "2 found, now Flask", "3 found, now numpy", "unpacking 2"]
