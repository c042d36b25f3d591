"""Models with their own Python code: each runs in its own processes, never in the server."""
