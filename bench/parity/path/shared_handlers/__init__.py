"""Handlers that no archive brings: both servers have them on their PYTHONPATH."""
