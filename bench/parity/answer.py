"""The answer of a server, of any kind."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """One answer. ``status`` is 0 if there was none; ``reason`` then says what happened instead.

    :param headers: names in lower case; a header that came twice has both values, with ``, `` between.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Any:
        """Return the body read as JSON.

        :raises ValueError: if it is none.
        """
        return json.loads(self.body)


def of_document(document: Any) -> Answer:
    """Return an answer that did not arrive over HTTP: the result of a probe of a server."""
    return Answer(200, "", NONE, json.dumps(document, indent=2).encode())


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: Any
) -> Answer:
    """Send one request, with these headers and no others but Host, Content-Length and Accept-Encoding.

    :param body: bytes, or an iterable of bytes, which is sent in chunks.
    """
    try:
        connection.request(method, path, body, dict(headers), encode_chunked=not isinstance(body, bytes | None))
        response = connection.getresponse()
        return answer_of(response)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, type(error).__name__, NONE, b"")


def answer_of(response: http.client.HTTPResponse) -> Answer:
    """Read a response to its end."""
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value}" if known else value
    return Answer(response.status, response.reason, headers, response.read())
