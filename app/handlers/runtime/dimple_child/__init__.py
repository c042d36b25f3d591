"""The process that runs an archive's own Python. It and the server never see each other's modules."""
