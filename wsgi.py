"""What gunicorn serves. The models load here, at import, so that a worker that answers can answer everything."""

from __future__ import annotations

import logging

from app import create_app, load_models
from app.settings import read_settings

settings = read_settings()
logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s [%(process)d] [%(levelname)s] %(message)s")
app = create_app(settings)
load_models(app)
