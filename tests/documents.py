"""Commands and code in documents, typed as a reader types them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import numpy as np
from PIL import Image

from app.settings import ROOT
from tests.server.servers import Place

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def lay_out(here: Place) -> None:
    """Make the folder look like a checkout: with the programs, the pictures and the models that documents name."""
    for name in ("bin", "static", "README.md"):
        (here.folder / name).symlink_to(ROOT / name)
    (here.folder / "models").symlink_to(here.store)


def typed(here: Place, line: str) -> subprocess.CompletedProcess[str]:
    """Type a command in the folder, in the environment of the tests and at the ports of the folder."""
    line = line.replace("localhost:8080", f"127.0.0.1:{here.port}")
    words = shlex.split(line.replace("localhost:8081", f"127.0.0.1:{here.management_port}"), comments=True)
    if words[0].startswith("bin/"):
        words = [sys.executable, str(ROOT / words[0]), *words[1:]]
    return here.typed(["curl", "-sS", *words[1:]] if words[0] == "curl" else words)


def make_photographs(here: Place, folder: str, classes: dict[str, int], seed: int = 0) -> None:
    """Make a folder of pictures for each class, which differ in their brightness, 0-255."""
    random = np.random.default_rng(seed)
    for label, grey in classes.items():
        (here.folder / folder / label).mkdir(parents=True)
        for number in range(5):
            pixels = np.clip(random.normal(grey, 15, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(here.folder / folder / label / f"{number}.png")
