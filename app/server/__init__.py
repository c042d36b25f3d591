"""The HTTP server: extensions of gunicorn's threaded worker and master through their public names."""
