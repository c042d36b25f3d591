"""Certificates, checked by openssl."""

from __future__ import annotations

import contextlib
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from app.errors import LaunchError
from app.server.certificates import certificate_files, server_context


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate and its key, made by openssl."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "c.pem", folder / "k.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=told"]
    openssl("req", "-x509", *options)
    return certificate, key


@pytest.fixture(scope="module")
def keystore(pair: tuple[Path, Path]) -> Path:
    certificate, key = pair
    path = certificate.parent / "keystore.p12"
    files = ["-in", str(certificate), "-inkey", str(key), "-out", str(path)]
    openssl("pkcs12", "-export", *files, "-passout", "pass:changeit")
    return path


def test_a_keystore_is_converted_to_private_pem_files(keystore: Path, tmp_path: Path) -> None:
    certificate, key = certificate_files({"keystore": str(keystore)}, tmp_path / "tls", "localhost")
    assert "CN = told" in openssl("x509", "-in", str(certificate), "-noout", "-subject").replace("CN=told", "CN = told")
    public = openssl("x509", "-in", str(certificate), "-noout", "-pubkey")
    assert openssl("pkey", "-in", str(key), "-pubout") == public
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_wrong_password_or_a_java_keystore_is_refused_with_the_next_step(keystore: Path, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"keystore_pass is wrong\. Convert it: keytool"):
        certificate_files({"keystore": str(keystore), "keystore_pass": "other"}, tmp_path, "localhost")
    with pytest.raises(LaunchError, match="keystore_type=JKS cannot be read"):
        certificate_files({"keystore": str(keystore), "keystore_type": "JKS"}, tmp_path, "localhost")


def test_pem_files_are_used_unchanged_and_a_keystore_takes_precedence(
    pair: tuple[Path, Path], keystore: Path, tmp_path: Path
) -> None:
    pem_files = {"certificate_file": str(pair[0]), "private_key_file": str(pair[1])}
    assert certificate_files(pem_files, tmp_path, "localhost") == pair
    assert certificate_files(pem_files | {"keystore": str(keystore)}, tmp_path, "localhost")[0].parent == tmp_path
    with pytest.raises(LaunchError, match="only one"):
        certificate_files({"certificate_file": str(pair[0])}, tmp_path, "localhost")


def test_a_self_signed_certificate_for_the_host_is_the_default(tmp_path: Path) -> None:
    certificate, key = certificate_files({}, tmp_path / "tls", "10.1.2.3")
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    names = openssl("x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName")
    assert "DNS:localhost" in names
    assert "IP Address:10.1.2.3" in names
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def handshake(server: ssl.SSLContext) -> str | None:
    """Let a client that trusts every certificate shake hands with a server, in memory; return their TLS version."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].version()


def signed(folder: Path, bits: int) -> tuple[Path, Path]:
    """Return a certificate and its RSA key of so many bits, made by openssl."""
    certificate, key = folder / f"c{bits}.pem", folder / f"k{bits}.pem"
    openssl("genrsa", "-out", str(key), str(bits))
    openssl("req", "-x509", "-sha256", "-key", str(key), "-out", str(certificate), "-subj", "/CN=told")
    return certificate, key


def test_a_weak_key_like_that_of_the_mms_tests_is_served_with_a_warning(tmp_path: Path) -> None:
    context, warning = server_context(*signed(tmp_path, 1024))
    assert handshake(context) == "TLSv1.3"
    assert "c1024.pem is weaker" in warning
    assert "rsa:2048" in warning
    context, warning = server_context(*signed(tmp_path, 2048))
    assert (handshake(context), warning) == ("TLSv1.3", "")


def test_an_even_weaker_or_mismatched_key_is_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(LaunchError, match=r"c512\.pem .* too weak .*rsa:2048"):
        server_context(*signed(tmp_path, 512))
    with pytest.raises(LaunchError, match="KEY_VALUES_MISMATCH"):
        server_context(pair[0], signed(tmp_path, 2048)[1])
