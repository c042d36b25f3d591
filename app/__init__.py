"""Dimple, a server of existing image classifiers. This module assembles its packages into an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Create the application without its models, which :func:`load_models` loads.

    :param settings: by default from the environment (``DIMPLE_…``).
    :raises SettingError: if a setting in the environment is invalid.
    """
    from flask import Flask

    from app.cli.main import register_commands
    from app.settings import ROOT
    from app.web.forms import FormRequest

    settings = settings or _settings()
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.request_class = FormRequest
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # No view is a coroutine; Flask would check each view and hook at every request.
    app.ensure_sync = lambda func: func  # type: ignore[method-assign]
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.config["MAX_FORM_PARTS"] = settings.max_form_parts
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_form_memory_bytes
    _wire(app, settings)
    register_commands(app)
    return app


def _settings() -> Settings:
    """Read the settings. A flask command ends with a one-line message if they are invalid."""
    import click

    from app.errors import SettingError
    from app.settings import read_settings

    try:
        return read_settings()
    except SettingError as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from None


def _wire(app: Flask, settings: Settings) -> None:
    from app.serving.registry import Registry
    from app.serving.uploads import Uploads
    from app.web import init_app
    from app.web.request import Services
    from app.zoo.build import by_name, listed

    uploads = Uploads(
        settings.uploads_dir, settings.uploads_max_age, settings.uploads_max_bytes, settings.uploads_max_files
    )
    app.extensions["dimple"] = Services(settings, Registry(settings), uploads, by_name(settings), listed(settings))
    init_app(app, settings)


def load_models(app: Flask) -> None:
    """Install Dimple's own models into the models folder, then load all models of that folder and all registered
    models.

    :raises SettingError: if the registrations cannot be read.
    """
    from app.backend.client import BackendClient
    from app.backend.shared_state import backend_process
    from app.zoo.imagenet import add_shipped_models

    here = app.extensions["dimple"]
    process = backend_process()
    if process is None:
        add_shipped_models(here.settings)
        here.registry.start()
    else:
        here.registry.start(BackendClient(*process, here.settings))
    here.uploads.sweep_regularly()
