"""The process that runs an archive's own Python. It never sees the server's modules, nor the server it."""
