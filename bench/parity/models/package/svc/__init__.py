"""A package of the archive, whose name is a handler, too."""

from svc.handler import handle

__all__ = ["handle"]
