"""The URLs that may be fetched: addresses by IANA's registries, real servers on this machine, and names that change."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.errors import DataError, DownloadError, UrlNotAllowed
from app.security.ssrf import FetchPolicy, is_forbidden, is_public
from app.utils.download import Patience, download

ONCE = Patience(connect=60, read=60, tries=1)

# iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry: blocks that are not globally reachable
REGISTRY = [
    "0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.170/32", "192.0.0.171/32", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
    "255.255.255.255/32",
    "::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:2::/48",
    "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
]  # fmt: skip
MULTICAST = ["224.0.0.0/4", "ff00::/8"]  # RFC 5771, RFC 4291


@pytest.mark.parametrize("block", [*REGISTRY, *MULTICAST])
def test_special_purpose_address_blocks_are_not_public(block: str) -> None:
    network = ipaddress.ip_network(block)
    for address in (network[0], network[-1], network[network.num_addresses // 2]):
        assert not is_public(str(address)), address
        if address.version == 4:
            assert not is_public(f"::ffff:{address}")
            assert not is_public(f"64:ff9b::{address}")


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "93.184.216.34",
     "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "9.255.255.255", "11.0.0.0", "126.255.255.255",
     "128.0.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e",
     "::ffff:8.8.8.8", "64:ff9b::808:808"],
)  # fmt: skip
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "168.63.129.16", "100.100.100.200",
     "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
     "2002:a9fe:a9fe::1", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "::a9fe:a9fe",
     "2001:0:a9fe:a9fe:0:0:0:0", "2001:0:102:304:0:0:5601:5601"],
)  # fmt: skip
def test_metadata_services_are_refused_even_if_private_addresses_are_allowed(address: str) -> None:
    assert is_forbidden(address)
    assert not is_public(address)
    reach = FetchPolicy(private=True, resolve=names({"m.example": [address]}))
    with pytest.raises(UrlNotAllowed, match="metadata"):
        reach.addresses("http://m.example/", reach.check("http://m.example/"))


def names(known: dict[str, list[str]]) -> Any:
    """Return a name server: addresses by name, each returned once; a second query is an error."""
    left = dict(known)

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in left.pop(host)]

    return resolve


class Site:
    """A web server on this machine, and its requests."""

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self.answers, self.requests = answers, list[tuple[str, str]]()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.headers["Host"], self.path))
                status, text = site.answers.get(self.path, (404, ""))
                self.send_response(status)
                if status in (301, 302, 303, 307, 308):
                    self.send_header("Location", text)
                    text = ""
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    def start(self) -> None:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site({"/m.mar": (200, "a model")})
    site.start()
    yield site
    site.server.shutdown()
    site.server.server_close()


def fetch(url: str, folder: Path, reach: FetchPolicy) -> str:
    return download(url, folder / "m.mar", patience=ONCE, reach=reach).read_text()


def test_the_name_is_resolved_once_and_sent_in_the_host_header(site: Site, tmp_path: Path) -> None:
    reach = FetchPolicy(private=True, resolve=names({"models.example": ["127.0.0.1"]}))
    assert fetch(f"http://models.example:{site.port}/m.mar", tmp_path, reach) == "a model"
    assert site.requests == [(f"models.example:{site.port}", "/m.mar")]


def test_a_private_address_among_public_ones_is_refused_before_any_request(site: Site, tmp_path: Path) -> None:
    for addresses in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["::ffff:10.0.0.1"]):
        reach = FetchPolicy(resolve=names({"models.example": addresses}))
        with pytest.raises(UrlNotAllowed, match=r"models\.example.*not public.*DIMPLE_MODEL_URL_PRIVATE"):
            fetch(f"http://models.example:{site.port}/m.mar", tmp_path, reach)
    assert site.requests == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)
def test_every_notation_of_this_machine_is_refused(site: Site, tmp_path: Path, host: str) -> None:
    with pytest.raises((UrlNotAllowed, DataError)):
        fetch(f"http://{host}:{site.port}/m.mar", tmp_path, FetchPolicy())
    assert site.requests == []


def test_the_second_address_is_tried_if_the_first_does_not_answer(site: Site, tmp_path: Path) -> None:
    reach = FetchPolicy(
        private=True, resolve=names({"models.example": ["127.0.0.2", "127.0.0.1"]})
    )  # no server listens at .2
    assert fetch(f"http://models.example:{site.port}/m.mar", tmp_path, reach) == "a model"


def test_redirects_are_followed_and_each_is_checked(site: Site, tmp_path: Path) -> None:
    away = f"http://other.example:{site.port}"
    site.answers |= {
        "/near": (302, "m.mar"),
        "/away": (307, f"{away}/m.mar"),
        "/meta": (302, "http://169.254.169.254/x"),
    }
    site.answers |= {"/file": (302, "file:///etc/passwd"), "/round": (302, "/round"), "/gopher": (302, "gopher://x/")}
    base = f"http://models.example:{site.port}"

    def reach(**more: Any) -> FetchPolicy:
        def resolve(host: str, port: int, **_: object) -> list[Any]:
            return [(0, 0, 0, "", (host if host[0].isdigit() else "127.0.0.1", port))]

        return FetchPolicy(private=True, resolve=resolve, **more)

    assert fetch(f"{base}/near", tmp_path, reach()) == "a model"
    assert fetch(f"{base}/away", tmp_path, reach()) == "a model"
    assert site.requests[-1] == (f"other.example:{site.port}", "/m.mar")
    with pytest.raises(UrlNotAllowed, match=r"not fetched from other\.example"):
        fetch(f"{base}/away", tmp_path, reach(hosts=("models.example",)))
    with pytest.raises(UrlNotAllowed, match="metadata"):
        fetch(f"{base}/meta", tmp_path, reach())
    for path in ("/file", "/gopher"):
        with pytest.raises(UrlNotAllowed, match="scheme must be http or https"):
            fetch(base + path, tmp_path, reach())
    site.requests.clear()
    with pytest.raises(UrlNotAllowed, match="more than 5 redirects"):
        fetch(f"{base}/round", tmp_path, reach())
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    ("url", "reach"),
    [
        ("ftp://a.example/m.mar", FetchPolicy()),
        ("file:///etc/passwd", FetchPolicy()),
        ("http://a.example/m.mar", FetchPolicy(schemes=("https",))),
        ("https://evil.example/m.mar", FetchPolicy(hosts=("*.good.example", "one.example"))),
        ("https://good.example.evil.example/", FetchPolicy(hosts=("*.good.example",))),
        ("https://one.example@evil.example/", FetchPolicy(hosts=("one.example",))),
        ("http:///m.mar", FetchPolicy()),
        ("http://a.example:x/", FetchPolicy()),
        ("http://a..example/", FetchPolicy()),
        (f"http://{'a' * 70}.example/", FetchPolicy()),
    ],
)
def test_unacceptable_urls_are_refused_by_their_text(url: str, reach: FetchPolicy) -> None:
    with pytest.raises(UrlNotAllowed):
        reach.check(url)


@pytest.mark.parametrize(
    "url", ["https://a.good.example/x", "https://ONE.example./x", "https://u:p@one.example:8443/x"]
)
def test_allowed_hosts_are_accepted(url: str) -> None:
    assert FetchPolicy(hosts=("*.good.example", "one.example")).check(url)


def test_the_download_of_a_too_large_model_is_stopped(site: Site, tmp_path: Path) -> None:
    site.answers["/big.mar"] = (200, "x" * 300_000)
    reach = FetchPolicy(private=True, most_bytes=100_000, resolve=names({"models.example": ["127.0.0.1"]}))
    with pytest.raises(DownloadError, match="more than 100,000 bytes"):
        fetch(f"http://models.example:{site.port}/big.mar", tmp_path, reach)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for models.example, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1)
    )
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName("models.example")]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = built.sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return folder / "cert.pem", folder / "key.pem"


def test_tls_uses_the_host_name_and_verifies_the_certificate(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = list[str]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _socket, name, _context: heard.append(name)
    site = Site({"/m.mar": (200, "a model"), "/down": (302, "http://models.example/m.mar")})
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    site.start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))

    def reach(name: str) -> FetchPolicy:
        return FetchPolicy(private=True, resolve=names({name: ["127.0.0.1"]}))

    try:
        assert fetch(f"https://models.example:{site.port}/m.mar", tmp_path, reach("models.example")) == "a model"
        assert heard == ["models.example"]
        with pytest.raises(DataError, match=r"no safe connection.*other\.example"):
            fetch(f"https://other.example:{site.port}/m.mar", tmp_path, reach("other.example"))
        with pytest.raises(UrlNotAllowed, match="leads from https"):
            fetch(f"https://models.example:{site.port}/down", tmp_path, reach("models.example"))
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(DataError, match="no safe connection"):
            fetch(f"https://models.example:{site.port}/m.mar", tmp_path, reach("models.example"))
    finally:
        site.server.shutdown()
        site.server.server_close()


def test_passwords_of_the_users_netrc_are_not_sent(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine models.example login me password secret\nmachine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent = list[str | None]()
    handler = site.server.RequestHandlerClass
    original = handler.do_GET  # type: ignore[attr-defined]

    def note(self: Any) -> None:
        sent.append(self.headers["Authorization"])
        original(self)

    monkeypatch.setattr(handler, "do_GET", note)
    for login in ("", "you:word@"):
        reach = FetchPolicy(private=True, resolve=names({"models.example": ["127.0.0.1"]}))
        fetch(f"http://{login}models.example:{site.port}/m.mar", tmp_path, reach)
    assert sent == [None, "Basic eW91OndvcmQ="]
