"""Keras-MXNet: the reference for ``.h5`` files."""
