"""Downloads from a real server on this machine that truncates, stays silent, sends false headers and loses files."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.utils.download import Patience, download, is_url
from tests.helpers import wait_until

DATA = np.random.default_rng(3).integers(0, 256, 300_000, np.uint8).tobytes()
QUICK = Patience(connect=60, read=60, pause=0)
HASTY = Patience(connect=60, read=3, pause=0)
NO_SECOND_TRY = Patience(connect=60, read=60, tries=1)


@dataclass(frozen=True)
class Reply:
    """The answer to one request. ``cut`` ends the connection after so many bytes; ``silent`` keeps it open then."""

    status: int = 200
    data: bytes = DATA
    cut: int | None = None
    silent: bool = False
    ranges: bool = True
    heeds_if_range: bool = True
    etag: str = '"one"'
    changed: str = ""
    length: int | None = None
    chunked: bool = False
    packed: bool = False
    shift: int = 0
    location: str = ""


@dataclass
class Site:
    """The answers of the server, request by request (the last one repeats), and the requests."""

    replies: list[Reply] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def ranges(self) -> list[str]:
        return [headers.get("Range", "") for headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.requests.append(dict(self.headers))
        reply = self.site.replies.pop(0) if len(self.site.replies) > 1 else self.site.replies[0]
        self.close_connection = True
        status, body, extra = self.answer(reply)
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        self.wfile.write(body[: reply.cut])
        self.wfile.flush()
        if reply.silent:
            self.site.over.wait(60)

    def answer(self, reply: Reply) -> tuple[int, bytes, dict[str, str]]:
        headers = {
            "ETag": reply.etag,
            "Last-Modified": reply.changed,
            "Location": reply.location,
            "Connection": "close",
        }
        headers = {name: value for name, value in headers.items() if value}
        status, body = reply.status, reply.data if reply.status == 200 else b"an excuse"
        range_header = self.headers.get("Range", "")
        same = not reply.heeds_if_range or self.headers.get("If-Range") in (reply.etag, reply.changed)
        if status == 200 and range_header and reply.ranges and same:
            start = int(range_header.removeprefix("bytes=").removesuffix("-")) + reply.shift
            if start >= len(body):
                return 416, b"", headers | {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"}
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        if reply.packed:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.length != 0:
            headers["Content-Length"] = str(reply.length or len(body))
        return status, body, headers

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/data.zip"
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_completely_and_leaves_no_other_file(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply()]
    target = tmp_path / "new" / "data.zip"
    assert download(site.url, target) == target
    assert target.read_bytes() == DATA
    assert left(target.parent) == ["data.zip"]


def test_an_empty_file_is_downloaded(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(data=b"", chunked=True)]
    assert download(site.url, tmp_path / "data").read_bytes() == b""


def test_a_truncated_download_is_resumed(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000), Reply(cut=50_000), Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.ranges() == ["", "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for headers in site.requests] == [None, '"one"', '"one"']


def test_a_later_call_resumes_a_failed_download(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000)]
    with pytest.raises(DataError, match=r"0\.1 MB are kept"):
        download(site.url, tmp_path / "data", patience=NO_SECOND_TRY)
    assert not (tmp_path / "data").exists()
    site.replies = [Reply()]
    assert download(site.url, tmp_path / "data").read_bytes() == DATA
    assert site.ranges() == ["", "bytes=100000-"]


def test_the_modification_date_is_used_if_there_is_no_etag(site: Site, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    site.replies = [Reply(etag="", changed=date, cut=100_000), Reply(etag="", changed=date)]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.requests[1]["If-Range"] == date
    assert site.requests[1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("etag", ["", 'W/"one"'])
def test_a_download_without_a_strong_validator_starts_again(site: Site, tmp_path: Path, etag: str) -> None:
    site.replies = [Reply(etag=etag, cut=100_000), Reply(etag=etag)]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.ranges() == ["", ""]


def test_a_file_from_a_server_that_ignores_ranges_is_fetched_again(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(ranges=False, cut=100_000), Reply(ranges=False)]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA


@pytest.mark.parametrize("heeds", [True, False])
def test_a_changed_file_is_not_appended_to_the_old_part(site: Site, tmp_path: Path, heeds: bool) -> None:
    new = DATA[::-1]
    site.replies = [Reply(cut=100_000), Reply(data=new, etag='"two"', heeds_if_range=heeds)]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == new


def test_a_wrong_range_is_not_accepted(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000), Reply(shift=7), Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.ranges() == ["", "bytes=100000-", ""]


def test_a_partial_file_of_another_url_is_not_resumed(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000)]
    with pytest.raises(DataError):
        download(site.url, tmp_path / "data", patience=NO_SECOND_TRY)
    site.replies = [Reply(data=DATA[::-1])]
    assert download(site.url + "?other", tmp_path / "data").read_bytes() == DATA[::-1]


def test_a_partial_file_without_metadata_is_dropped(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data.partial").write_bytes(b"of something")
    (tmp_path / "data.partial.json").write_text('{"url": ')  # torn
    site.replies = [Reply()]
    assert download(site.url, tmp_path / "data").read_bytes() == DATA


def test_a_complete_partial_file_is_used(site: Site, tmp_path: Path) -> None:
    """This happens after a kill between the last byte and the renaming."""
    site.replies = [Reply(cut=100_000)]
    with pytest.raises(DataError):
        download(site.url, tmp_path / "data", patience=NO_SECOND_TRY)
    (tmp_path / "data.partial").write_bytes(DATA)
    site.replies = [Reply()]
    assert download(site.url, tmp_path / "data").read_bytes() == DATA
    assert site.ranges() == ["", "bytes=300000-"]


def test_a_partial_file_that_is_too_long_is_dropped(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000)]
    with pytest.raises(DataError):
        download(site.url, tmp_path / "data", patience=NO_SECOND_TRY)
    (tmp_path / "data.partial").write_bytes(DATA + b"more")
    site.replies = [Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.ranges() == ["", "bytes=300004-", ""]


def test_the_rest_of_a_file_from_a_silent_server_is_requested_again(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000, silent=True), Reply()]
    assert download(site.url, tmp_path / "data", patience=HASTY).read_bytes() == DATA
    assert site.ranges() == ["", "bytes=100000-"]


def test_a_server_that_stays_silent_is_an_error(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=0, silent=True)]
    with pytest.raises(DataError, match="nothing came in time"):
        download(site.url, tmp_path / "data", patience=Patience(connect=60, read=0.3, pause=0))
    wait_until(lambda: len(site.requests) >= 4)  # the server may be slower than the client is patient
    assert len(site.requests) == 4


def test_attempts_that_make_progress_are_not_counted(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=40_000)] * 7 + [Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert len(site.requests) == 8


def test_repeated_restarts_are_limited(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(ranges=False, cut=100_000)]
    with pytest.raises(DataError, match="cut"):
        download(site.url, tmp_path / "data", patience=QUICK)
    assert len(site.requests) == 4


def test_an_archive_without_a_length_is_downloaded_completely(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(chunked=True, etag="", ranges=False)]
    assert download(site.url, tmp_path / "data").read_bytes() == DATA


def test_a_truncated_archive_without_a_length_starts_again(site: Site, tmp_path: Path) -> None:
    site.replies = [
        Reply(chunked=True, etag="", ranges=False, cut=100_000),
        Reply(chunked=True, etag="", ranges=False),
    ]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA


def test_a_response_shorter_than_its_stated_length_is_an_error(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(length=len(DATA) + 1000)]
    with pytest.raises(DataError, match="could not be fetched"):
        download(site.url, tmp_path / "data", patience=QUICK)
    assert not (tmp_path / "data").exists()


def test_the_length_of_a_compressed_response_is_not_that_of_the_file(site: Site, tmp_path: Path) -> None:
    text = b"the same again " * 10_000
    site.replies = [Reply(data=text, packed=True)]
    assert download(site.url, tmp_path / "data").read_bytes() == text


def test_a_truncated_compressed_response_starts_again(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(packed=True, cut=100_000), Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.ranges() == ["", ""]


def test_redirects_are_followed(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(status=302, location="/elsewhere"), Reply()]
    assert download(site.url, tmp_path / "data").read_bytes() == DATA


def test_endless_redirects_are_an_error(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(status=302, location="/elsewhere")]
    with pytest.raises(DataError, match="redirects"):
        download(site.url, tmp_path / "data")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_an_error_at_once_with_its_url_and_status(site: Site, tmp_path: Path, status: int) -> None:
    site.replies = [Reply(status=status)]
    with pytest.raises(DataError, match=rf"{site.url}.* {status} .*--source"):
        download(site.url, tmp_path / "data", patience=QUICK)
    assert len(site.requests) == 1
    assert left(tmp_path) == []


def test_after_a_refusal_the_next_call_may_succeed(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(status=404), Reply()]
    with pytest.raises(DataError):
        download(site.url, tmp_path / "data")
    assert download(site.url, tmp_path / "data").read_bytes() == DATA


def test_a_server_error_is_retried(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(status=500), Reply(status=503), Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA


def test_a_persistent_server_error_is_reported_with_url_and_status(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(status=500)]
    with pytest.raises(DataError, match=rf"{site.url}.* 500 .*--source"):
        download(site.url, tmp_path / "data", patience=QUICK)
    assert len(site.requests) == 4


def test_a_server_error_during_a_download_loses_nothing(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000), Reply(status=500), Reply()]
    assert download(site.url, tmp_path / "data", patience=QUICK).read_bytes() == DATA
    assert site.ranges() == ["", "bytes=100000-", "bytes=100000-"]


def test_a_failed_download_keeps_the_old_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"old")
    site.replies = [Reply(cut=100_000)]
    with pytest.raises(DataError):
        download(site.url, tmp_path / "data", patience=NO_SECOND_TRY)
    assert (tmp_path / "data").read_bytes() == b"old"


def test_a_refused_connection_is_an_error_with_its_url(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:1/x.*no connection"):
        download("http://127.0.0.1:1/x", tmp_path / "data", patience=QUICK)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://", "gopher://x"])
def test_a_url_of_another_kind_is_an_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=url):
        download(url, tmp_path / "data")


def test_a_file_url_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "with space.zip"
    source.write_bytes(DATA)
    assert download(source.as_uri(), tmp_path / "data").read_bytes() == DATA
    assert left(tmp_path) == ["data", "with space.zip"]


def test_a_file_url_of_a_missing_file_is_an_error_with_the_url(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file:///nowhere/at/all\.zip"):
        download("file:///nowhere/at/all.zip", tmp_path / "data")


def test_an_unwritable_folder_is_an_error_with_its_path(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply()]
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="file/data"):
        download(site.url, tmp_path / "file" / "data")


def test_urls_are_distinguished_from_paths() -> None:
    assert is_url("https://example.org/data.zip")
    assert is_url("file:///data.zip")
    assert not is_url("data/pictures.zip")
    assert not is_url("/data/http:/x")
