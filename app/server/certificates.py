"""Certificates for HTTPS: PEM files converted from Java's PKCS12 keystores, and self-signed certificates."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import LaunchError
from app.utils.files import atomic_write

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

DEFAULT_PASS = "changeit"
VALID_DAYS = 365
TOO_SHORT = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")
"""OpenSSL's error reasons for a certificate that is too weak for its security level 2."""
NEW_KEY = "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout key.pem -out certificate.pem"


def certificate_files(configuration: Mapping[str, str], folder: Path, host: str) -> tuple[Path, Path]:
    """Find or create the certificate and its key; a keystore takes precedence over PEM files, as in Multi Model Server.

    :param folder: folder for created files, which only their owner can read.
    :param host: host name of a self-signed certificate.
    :returns: paths of the certificate chain and the private key, PEM.
    :raises LaunchError: if they cannot be read.
    """
    if keystore := configuration.get("keystore"):
        kind = configuration.get("keystore_type") or "PKCS12"
        password = configuration.get("keystore_pass") or DEFAULT_PASS
        return _from_keystore(Path(keystore), kind, password, folder)
    certificate, key = configuration.get("certificate_file"), configuration.get("private_key_file")
    if certificate and key:
        for path in (certificate, key):
            if not Path(path).is_file():
                raise LaunchError(f"There is no file {path} for HTTPS.")
        return Path(certificate).absolute(), Path(key).absolute()
    if certificate or key:
        raise LaunchError("HTTPS takes both certificate_file and private_key_file; the configuration has only one.")
    return _self_signed(folder, host)


def server_context(certificate: Path, key: Path) -> tuple[ssl.SSLContext, str]:
    """Return the context of a server that speaks TLS 1.2 and 1.3, and a warning, empty if there is none.

    A certificate that is too weak for OpenSSL's default, such as MMS's own test key (RSA, 1,024 bits), is accepted if
    it reaches OpenSSL's security level 1.

    :param certificate: certificate chain, PEM.
    :param key: private key, PEM.
    :raises LaunchError: if the files cannot be read, do not match or are weaker still.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    warning = ""
    try:
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            if error.reason not in TOO_SHORT:
                raise
            ciphers = (cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3")
            context.set_ciphers(":".join(["@SECLEVEL=1", *ciphers]))
            context.load_cert_chain(certificate, key)
            warning = (
                f"The certificate {certificate} is weaker than OpenSSL's security level 2 allows ({error.reason}), and "
                f"clients may refuse it. Make another: {NEW_KEY}"
            )
    except OSError as error:  # includes ssl.SSLError
        weak = isinstance(error, ssl.SSLError) and error.reason in TOO_SHORT
        reason = f"it is too weak ({error}). Make another: {NEW_KEY}" if weak else f"{error}."
        raise LaunchError(f"The certificate {certificate} with the key {key} cannot be used: {reason}") from None
    return context, warning


def _from_keystore(path: Path, kind: str, password: str, folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives.serialization import pkcs12

    convert = f"Convert it: keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12"
    if kind.upper() not in ("PKCS12", "P12", "PFX"):
        raise LaunchError(f"keystore_type={kind} cannot be read; PKCS12 can. {convert}")
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(path.read_bytes(), password.encode())
    except OSError as error:
        raise LaunchError(f"The keystore {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise LaunchError(f"The keystore {path} is not a PKCS12 file, or keystore_pass is wrong. {convert}") from None
    if key is None or certificate is None:
        raise LaunchError(f"The keystore {path} holds no private key with its certificate.")
    return _write(folder, [certificate, *others], key)


def _self_signed(folder: Path, host: str) -> tuple[Path, Path]:
    """Create a certificate for this machine, anew at every start, as Multi Model Server does."""
    import socket

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Dimple, self-signed")])
    now = datetime.now(UTC)
    hosts = dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), host])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _write(folder, [certificate], key)


def _general_name(host: str):  # type: ignore[no-untyped-def]
    import ipaddress

    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, chain: list[Certificate], key: PrivateKeyTypes) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    folder.mkdir(parents=True, exist_ok=True)
    certificates = b"".join(item.public_bytes(Encoding.PEM) for item in chain)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return _private_file(folder / "server.crt", certificates), _private_file(folder / "server.key", private)


def _private_file(path: Path, data: bytes) -> Path:
    atomic_write(path, data, mode=0o600)
    return path
