"""Dimple serves the image classifiers that people already have. This file is where its rooms meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application, without its models: :func:`load_models` does that.

    :param settings: taken from the environment (``DIMPLE_…``) where they are not given.
    :raises SettingError: where the environment holds a setting that makes no sense.
    """
    from flask import Flask

    from app.cli import register_commands
    from app.settings import ROOT, read_settings

    settings = settings or read_settings()
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    _wire(app, settings)
    register_commands(app)
    return app


def _wire(app: Flask, settings: Settings) -> None:
    from app.serving.registry import Registry
    from app.serving.uploads import Uploads
    from app.web import mms, ops, pages, predict
    from app.web.context import Dimple
    from app.web.headers import protect
    from app.web.ports import guard_ports
    from app.web.problems import register_problems

    uploads = Uploads(settings.uploads_dir, settings.uploads_max_age, settings.uploads_max_bytes)
    app.extensions["dimple"] = Dimple(settings, Registry(), uploads)
    for room in (pages, predict, mms, ops):
        app.register_blueprint(room.bp)
    guard_ports(app, settings.management_port)
    protect(app)
    register_problems(app)


def load_models(app: Flask) -> None:
    """Load every model of the application's models folder, after putting there what Dimple brings itself."""
    from app.zoo.imagenet import ensure_imagenet

    here = app.extensions["dimple"]
    here.settings.models_dir.mkdir(parents=True, exist_ok=True)
    ensure_imagenet(here.settings.models_dir)
    here.registry.load_folder(here.settings.models_dir, here.settings.engine)
