"""Runs out of memory at load. Its parameters are called as in an archive that the server's own tests use."""


def handle(ctx, data):
    raise MemoryError("too large")
