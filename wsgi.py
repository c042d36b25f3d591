"""What gunicorn serves. The models load here, at import, so that a worker that answers can answer everything."""

from __future__ import annotations

import logging

from app import create_app, load_models
from app.launch.logs import server_style, style_name
from app.settings import read_settings
from app.telemetry.metric_files import measured_start

settings = read_settings()
_lines = logging.StreamHandler()
_lines.setFormatter(server_style(style_name(settings)))
logging.basicConfig(
    level=settings.log_level.upper(), handlers=[_lines]
)  # does nothing where gunicorn has a file for them
with measured_start(settings.instance_dir / "metrics"):
    app = create_app(settings)
    load_models(app)
