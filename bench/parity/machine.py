"""The requirements of a comparison: Java, and Multi Model Server in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from app.utils.progress import echo

PACKAGES = (
    "multi-model-server==1.1.11",
    "model-archiver==1.0.3",
    "mxnet==1.9.1",
    "numpy==1.26.4",
    "opencv-python-headless==4.11.0.86",
    "Pillow==12.3.0",
    "setuptools==80.9.0",
)
PEERS = (
    "bentoml==1.4.40",
    "litserve==0.2.19",
    "numpy==2.4.6",
    "opencv-python-headless==4.11.0.86",
    "openvino==2026.4.1",
    "Pillow==12.3.0",
)
OLD_NAME = 'import numpy\n\nif "bool" not in vars(numpy):\n    numpy.bool = bool  # MXNet 1.9.1 still says it\n'
JAVA = "Multi Model Server needs Java 8 or later: apt-get install openjdk-17-jre-headless"


class Missing(Exception):
    """Missing software that only the user can install; the message says what."""


def need(program: str, how: str) -> str:
    """Find a program.

    :raises Missing: with what to install, if it is missing.
    """
    if found := shutil.which(program):
        return found
    raise Missing(f"there is no {program}. {how}")


def mms_python(folder: Path) -> Path:
    """Return the Python of MMS's environment, which is made if it is missing or has other packages.

    :param folder: of the environment.
    """
    return _environment(folder, PACKAGES, "Multi Model Server", OLD_NAME)


def peers_python(folder: Path) -> Path:
    """Return the Python of an environment with BentoML and LitServe, as :func:`mms_python`."""
    return _environment(folder, PEERS, "BentoML and LitServe")


def _environment(folder: Path, packages: tuple[str, ...], title: str, site: str = "") -> Path:
    python, mark = folder / "bin" / "python", folder / "packages.txt"
    requirements = "\n".join(packages)
    if mark.exists() and mark.read_text() == requirements:
        return python
    echo(f"installing {title} into {folder}, once")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True
    )
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    (Path(found.stdout.strip()) / "sitecustomize.py").write_text(site)
    mark.write_text(requirements)
    return python
