"""MXNet: the reference for checkpoints."""
