"""Measurements of all processes of a server."""
