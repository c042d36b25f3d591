"""Downloads of files from the web. An interrupted download continues from the last byte, in this run or the next."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from app.errors import DataError, DownloadError, FetchError, of_system
from app.utils.progress import echo, progress

SCHEMES = ("http", "https", "file")
CHUNK = 2**16
# Status codes that may be temporary: the server is busy or broken.
PASSING = {408, 425, 429, 500, 502, 503, 504}


class UrlPolicy(Protocol):
    """A policy of URLs that may be fetched, and of their size, such as :class:`app.security.ssrf.FetchPolicy`."""

    @property
    def most_bytes(self) -> int:
        """Return the maximum size of a file in bytes; 0 means no limit."""
        ...

    def opened(self, url: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> AbstractContextManager[Any]:
        """Request a URL if it and all its redirects are allowed."""
        ...


@dataclass(frozen=True)
class Patience:
    """The timeouts of a download in seconds, and the number of tries without a new byte.

    ``connect`` is the timeout of the connection, ``read`` of the next bytes of the response. ``pause`` is the delay
    before the second try and doubles with each one.
    """

    connect: float = 10.0
    read: float = 30.0
    tries: int = 4
    pause: float = 1.0


def is_url(source: str) -> bool:
    """Return whether a source is a URL, not a path."""
    return "://" in source


def download(url: str, target: Path, patience: Patience | None = None, reach: UrlPolicy | None = None) -> Path:
    """Download ``url`` to ``target``, which is created or replaced only once it is complete.

    Until then the bytes are in ``<target>.partial``. A retry, now or in a later run, requests the rest (RFC 9110,
    section 14) on condition that the server's file is unchanged. It starts from the beginning if the file has changed,
    if that cannot be determined, or if the server does not support ranges (GitHub's archives). Only one process at a
    time may download a target.

    :param url: ``http://``, ``https://`` or ``file://``.
    :param reach: policy for URLs that do not come from the program's operator.
    :returns: ``target``.
    :raises UrlNotAllowed: if ``reach`` does not allow the URL or one of its redirects.
    :raises DownloadError: if the file exceeds the size limit of ``reach``.
    :raises DataError: with the URL and the next step, if the download fails.
    """
    partial = _Partial(target.with_name(target.name + ".partial"), target.with_name(target.name + ".partial.json"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if urlsplit(url).scheme == "file" and reach is None:
            _copy(url, partial)
        else:
            _fetch(url, partial, patience or Patience(), reach)
        os.replace(partial.path, target)
        partial.forget()
    except OSError as error:
        if problem := of_system(error):
            raise problem from None
        raise DataError(f"{target} cannot be written: {error}. Make room or choose another place") from None
    return target


class _Cut(Exception):
    """Raised if the response was interrupted or the server was busy; a retry may succeed."""


@dataclass(frozen=True)
class _Source:
    """The source of the bytes of a partial file. ``validator`` is a strong ETag or a modification date, which shows if
    the server's file is unchanged; empty if the server provides neither."""

    url: str
    validator: str
    total: int | None


@dataclass(frozen=True)
class _Partial:
    """A partial file, and beside it a note of its source."""

    path: Path
    note: Path

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def source(self, url: str) -> _Source | None:
        """Return the source of the bytes, or None if it is unknown or the download cannot be continued."""
        try:
            source = _Source(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return source if source.url == url and source.validator and self.size() else None

    def begin(self, source: _Source) -> None:
        self.forget()
        self.note.write_text(json.dumps(asdict(source)), encoding="utf-8")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _copy(url: str, partial: _Partial) -> None:
    partial.forget()
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{url} cannot be read: {error.strerror}. {_next_step()}") from None
    with file, partial.path.open("wb") as out:
        shutil.copyfileobj(file, out, CHUNK)


def _fetch(url: str, partial: _Partial, patience: Patience, reach: UrlPolicy | None) -> None:
    """Retry until the file is complete. Tries that bring new bytes are not counted, because a slow connection may break
    many times."""
    failures, most = 0, partial.size() if partial.source(url) else 0
    while True:
        try:
            return _attempt(url, partial, patience, reach)
        except _Cut as cut:
            failures = 0 if partial.size() > most else failures
            most = max(most, partial.size())
            failures += 1
            if failures >= patience.tries:
                raise DataError(_given_up(url, partial, str(cut))) from None
            pause = patience.pause * 2 ** (failures - 1)
            echo(f"{url}: {cut}; trying again in {pause:.0f} s")
            time.sleep(pause)


def _attempt(url: str, partial: _Partial, patience: Patience, reach: UrlPolicy | None) -> None:
    import requests
    import urllib3

    source = partial.source(url)
    headers = {"Accept-Encoding": "identity"}  # so that lengths and ranges count the file's own bytes
    if source:
        headers |= {"Range": f"bytes={partial.size()}-", "If-Range": source.validator}
    try:
        timeout = (patience.connect, patience.read)
        range_headers = (
            reach.opened(url, headers, timeout)
            if reach
            else requests.get(url, headers=headers, stream=True, timeout=timeout)
        )
        with range_headers as response:
            _take(url, response, partial, source, reach.most_bytes if reach else 0)
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise _Cut("nothing came in time") from None
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise _Cut(f"no safe connection: {error}") from None
    except urllib3.exceptions.HTTPError:
        raise _Cut("the connection was cut") from None
    except requests.ConnectionError:
        raise _Cut(f"no connection to {urlsplit(url).netloc}") from None
    except requests.RequestException as error:  # an unsupported URL, a redirect loop
        raise DataError(f"{url} cannot be fetched: {error}. {_next_step()}") from None


def _take(url: str, response: Any, partial: _Partial, source: _Source | None, most: int) -> None:
    """Append the response to the partial file, and return when it is complete.

    :param most: maximum size in bytes; 0 means no limit.
    """
    if source and response.status_code == 416:  # no bytes are left: the file was complete, or its length has changed
        if _total_of_range(response.headers) == partial.size() == (source.total or partial.size()):
            return
        partial.forget()
        raise _Cut("the server has no such rest; starting again")
    if source and response.status_code == 206:
        if not _continues(response.headers, partial.size(), source):
            partial.forget()
            raise _Cut("the server sent another piece than was asked for; starting again")
    elif response.status_code == 200:
        source = _source_of(url, response.headers)
        partial.begin(source)
    elif response.status_code in PASSING:
        raise _Cut(f"the server answered {response.status_code} {response.reason}")
    else:
        answer = f"{response.status_code} {response.reason}"
        raise FetchError(f"{url}: the server answered {answer}. {_next_step()}", response.status_code)
    _write(url, response, partial, source, most)
    if source.total is not None and partial.size() != source.total:
        raise _Cut(f"{partial.size():,} of {source.total:,} bytes came")


def _write(url: str, response: Any, partial: _Partial, source: _Source, most: int) -> None:
    name = partial.path.name.removesuffix(".partial")
    with partial.path.open("ab") as file, progress(f"fetching {name}", source.total, "B", partial.size()) as bar:
        for chunk in _chunks(response):
            if most and max(source.total or 0, file.tell() + len(chunk)) > most:
                raise DownloadError(f"Failed to download model from: {url}: it has more than {most:,} bytes")
            file.write(chunk)
            bar.advance(len(chunk))


def _chunks(response: Any) -> Iterator[bytes]:
    """Yield the bytes as they arrive: requests' own iterator loses the last bytes before an interruption."""
    raw = response.raw
    packed = _is_encoded(response.headers)
    while chunk := raw.read(CHUNK, decode_content=True) if packed else raw.read1(CHUNK, decode_content=False):
        yield chunk


def _source_of(url: str, headers: Mapping[str, str]) -> _Source:
    """Return the source of a response's bytes. Lengths and ranges of an encoded response are those of the encoded
    bytes, so they are not used."""
    if _is_encoded(headers):
        return _Source(url, "", None)
    length = headers.get("Content-Length", "")
    return _Source(url, _validator(headers), int(length) if length.isdecimal() else None)


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "identity").lower() != "identity"


def _validator(headers: Mapping[str, str]) -> str:
    """Return the validator of a response. A weak ETag (``W/…``) may stay while bytes change, and If-Range does not
    accept one (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _continues(headers: Mapping[str, str], size: int, source: _Source) -> bool:
    """Return whether a 206 response continues the partial file. Some servers support Range but ignore If-Range."""
    piece = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if not piece or int(piece[1]) != size or _is_encoded(headers):
        return False
    same_length = source.total is None or piece[2] in ("*", str(source.total))
    return same_length and _validator(headers) in ("", source.validator)


def _total_of_range(headers: Mapping[str, str]) -> int | None:
    total = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", ""))
    return int(total[1]) if total else None


def _given_up(url: str, partial: _Partial, reason: str) -> str:
    remark = f" {partial.size() / 1e6:.1f} MB are kept: the next run goes on from there." if partial.source(url) else ""
    return f"{url} could not be fetched: {reason}.{remark} {_next_step()}"


def _next_step() -> str:
    return "Try again later, or fetch it by other means and give --source the local copy."
