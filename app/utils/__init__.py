"""Helpers that are independent of models: files, downloads, processes, restarts, progress, JSON."""
