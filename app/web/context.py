"""What every view needs: the settings, the models and the upload folder of the running application."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from app.backend.sources import ByName
from app.serving.registry import Registry
from app.serving.uploads import Uploads
from app.settings import Settings


@dataclass(frozen=True)
class Dimple:
    """The rooms behind the web, wired together by :func:`app.create_app`."""

    settings: Settings
    registry: Registry
    uploads: Uploads
    by_name: ByName


def dimple() -> Dimple:
    """The one that belongs to the application that serves the present request."""
    found: Dimple = current_app.extensions["dimple"]
    return found
