"""The backend process: it owns the registry, the queues before what is slow, slow networks, and handler workers."""
