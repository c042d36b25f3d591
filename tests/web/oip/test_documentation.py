"""The commands and the program of docs/protocols.md, typed unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from app.settings import ROOT
from tests.conftest import Server

TEXT = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?m)(?:^(?:    .*)?\n)+", TEXT) if block.strip()]
PROGRAMS = [block for block in BLOCKS if block.strip().startswith("import ")]
COMMANDS = [block for block in BLOCKS if block not in PROGRAMS]


def test_the_document_has_commands() -> None:
    assert (len(PROGRAMS), len(COMMANDS)) == (1, 3)


@pytest.mark.parametrize("commands", COMMANDS)
def test_the_documented_commands_succeed(server: Server, commands: str) -> None:
    script = commands.replace("localhost:8080", f"127.0.0.1:{server.port}").replace("curl ", "curl -sSf --max-time 60 ")
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("smiling" in done.stdout) != ("Accept: text/csv" in commands)


def test_the_documented_program_prints_the_expected_output(server: Server) -> None:
    program = PROGRAMS[0].replace("localhost:8080", f"127.0.0.1:{server.port}")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[b'smiling' b'non-smiling']]")
    assert len(re.findall(r"b[\"'][\d.e-]+:\d+:", done.stdout)) == 3
