"""The message that the server is ready: a box for terminals, one line for logs."""

from __future__ import annotations

from dataclasses import dataclass

from app.server.status import server_url
from app.settings import VERSION, Settings


@dataclass(frozen=True)
class Greeting:
    """The server's addresses and number of models.

    :param models: number of models that are ready.
    :param failed: number of models that failed to load.
    :param stop: command that stops the server.
    """

    settings: Settings
    models: int
    failed: int
    stop: str

    def line(self) -> str:
        """Return the message as one line."""
        return f"Dimple {VERSION} is ready at {self._page}, management at {self._management}, models: {self._counts}"

    def box(self) -> str:
        """Return the message in a frame."""
        rows = [
            ("Page", self._page),
            ("Management", self._management),
            ("Models", self._counts),
            ("Stop", self.stop),
        ]
        lines = [f"Dimple {VERSION} is ready", "", *(f"{name:<12}{value}" for name, value in rows)]
        width = max(map(len, lines))
        inside = [f"│ {line:<{width}} │" for line in lines]
        return "\n".join([f"╭{'─' * (width + 2)}╮", *inside, f"╰{'─' * (width + 2)}╯"])

    @property
    def _page(self) -> str:
        return server_url(self.settings)

    @property
    def _management(self) -> str:
        url = server_url(self.settings, management=True)
        return url if url.startswith("unix:") else f"{url}/manage"

    @property
    def _counts(self) -> str:
        return f"{self.models}, and {self.failed} failed to load" if self.failed else str(self.models)
