"""MXNet, patched before a test module here imports what needs it."""

from __future__ import annotations

from app.engines.mxnet.compat import prepare

prepare()
