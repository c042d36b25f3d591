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
    from app.web import explain, live, manage, management, mms, ops, pages, predict, results
    from app.web.apidocs import views as apidocs
    from app.web.context import Dimple
    from app.web.headers import protect
    from app.web.ports import guard_ports
    from app.web.problems import register_problems
    from app.zoo.pulling import by_name

    uploads = Uploads(settings.uploads_dir, settings.uploads_max_age, settings.uploads_max_bytes)
    app.extensions["dimple"] = Dimple(settings, Registry(settings), uploads, by_name(settings))
    app.before_request(app.extensions["dimple"].registry.follow)  # before anybody looks for a model
    for room in (pages, results, explain, live, manage, predict, mms, management, ops, apidocs):
        app.register_blueprint(room.bp)
    guard_ports(app)
    protect(app)
    register_problems(app)


def load_models(app: Flask) -> None:
    """Load every model of the application's models folder, after putting there what Dimple brings itself, and every
    model that was registered.

    :raises SettingError: where the registrations cannot be read.
    """
    import sqlite3
    from pathlib import Path

    from app.errors import SettingError
    from app.formats.archive.in_use import remove_unused
    from app.serving.store import Store
    from app.zoo.imagenet import ensure_imagenet

    here = app.extensions["dimple"]
    settings = here.settings
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    if settings.shipped_models:
        ensure_imagenet(settings.models_dir)
    try:
        store = Store(settings.instance_dir / "registry.sqlite3")
    except (OSError, sqlite3.Error) as error:
        wanted = f"a folder whose registry.sqlite3 can be read and written ({error})"
        raise SettingError("DIMPLE_INSTANCE_DIR", settings.instance_dir, wanted) from None
    here.registry.start(store)
    used = [Path(one.path) for one in store.all().values() if not one.removed]
    remove_unused(settings.instance_dir / "archives", used)
