"""Helpers that know nothing of models: files, numbers shared between processes, restarts, JSON."""
