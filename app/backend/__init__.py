"""The backend process: the owner of the registry, the queues of slow models, slow networks, and handler workers."""
