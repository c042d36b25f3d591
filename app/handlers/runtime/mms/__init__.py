"""What archives import from Multi Model Server, under its names. Written for Dimple from the documented behaviour; the
server never imports it, only the processes that run archives' own Python do."""

from __future__ import annotations

from mms import version

__version__ = version.__version__
