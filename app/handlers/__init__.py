"""Models that bring their own Python: each runs in processes of its own, never in the server."""
