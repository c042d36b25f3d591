"""gunicorn's worker, ours: connections that wait without a thread, one thread that leads, and their even spread."""
