"""The HTTP server: gunicorn's threaded worker and master, extended on their public names."""
