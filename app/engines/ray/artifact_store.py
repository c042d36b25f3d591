"""Model folders named by a hash of their content, in a store from which nodes fetch them."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from app.errors import ClusterError, DataError, ModelFormatError
from app.formats.archive.unpack import unpack
from app.utils.download import Patience, download
from app.utils.files import file_lock, replacing, sha256_file, swap_folder

SUFFIX = ".zip"


def digest_of(folder: Path) -> str:
    """Return the digest of a model folder: SHA-256 over the paths, lengths and hashes of its files, sorted by path.

    Hidden files are excluded.

    :returns: 64 hexadecimal digits.
    :raises ModelFormatError: if the folder cannot be read.
    """
    made = hashlib.sha256()
    try:
        for path in files_of(folder):
            name = path.relative_to(folder).as_posix()
            made.update(f"{name}\0{path.stat().st_size}\0{sha256_file(path)}\n".encode())
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be read: {error}") from None
    return made.hexdigest()


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files of a model folder that belong to the model, sorted by path."""
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def pack_folder(folder: Path, target: Path) -> None:
    """Pack a model folder into one archive, which appears only when complete.

    The archive is not compressed, because weights hardly shrink.

    :raises ModelFormatError: if the archive cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(target) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
        ):
            for path in files_of(folder):
                archive.write(path, path.relative_to(folder).as_posix())
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be put into {target}: {error}") from None


def unpack_checked(packed: Path, folder: Path, digest: str) -> None:
    """Unpack an archive to ``folder``, which appears only if its content has the expected digest.

    :raises ModelFormatError: if the digest differs, or the folder cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpack(packed, partial)
        actual = digest_of(partial)
        if actual != digest:
            raise ModelFormatError(
                f"{packed.name} holds the content {actual[:16]}…, not {digest[:16]}…. Put the model there again"
            )
        swap_folder(partial, folder)
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


PATIENCE = Patience(tries=3)
SECONDS = (10, 120)
"""Timeouts of a web server in seconds, for connecting and for the next bytes."""


def publish(folder: Path, digest: str, store: str) -> None:
    """Upload a model folder to the store unless it is already there.

    :param store: a folder, ``http(s)://`` or ``s3://bucket/prefix``.
    :raises ClusterError: if the store rejects the upload, with what to do.
    :raises ModelFormatError: if the folder cannot be read, or the archive cannot be written.
    """
    name = digest + SUFFIX
    kind = _kind(store)
    if kind == "":
        if not (target := Path(store) / name).exists():
            pack_folder(folder, target)
    elif not (_bucket_has if kind == "s3" else _server_has)(store, name):
        with TemporaryDirectory(prefix="dimple-") as place:
            packed = Path(place) / name
            pack_folder(folder, packed)
            (_to_bucket if kind == "s3" else _to_server)(store, packed)


def fetch(digest: str, store: str, name: str, models: Path) -> Path:
    """Return the folder of a model on this node, after checking its content.

    :param name: the model's name, which is also the folder's name.
    :param models: folder of previously fetched models; other processes may use it at the same time.
    :raises ModelFormatError: if the store has different content under that name, or the folder cannot be written.
    :raises ClusterError: if the store does not return the archive.
    """
    folder = models / digest / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(models / f".{digest}.lock"):
            if not folder.is_dir() or digest_of(folder) != digest:
                with _download(digest, store, models) as packed:
                    unpack_checked(packed, folder, digest)
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error}") from None
    return folder


@contextmanager
def _download(digest: str, store: str, work_dir: Path) -> Iterator[Path]:
    name, kind = digest + SUFFIX, _kind(store)
    if kind == "":
        path = Path(store) / name
        if not path.is_file():
            raise ClusterError(
                f"{path} is not there. DIMPLE_CLUSTER_STORE must be a folder that all machines share, or a URL"
            )
        yield path
        return
    with TemporaryDirectory(prefix=".fetching-", dir=work_dir) as place:
        packed = Path(place) / name
        try:
            if kind == "s3":
                _from_bucket(store, packed)
            else:
                download(f"{store.rstrip('/')}/{name}", packed, patience=PATIENCE)
        except DataError as error:
            raise ClusterError(str(error)) from None
        yield packed


def _kind(store: str) -> str:
    """Return ``s3``, ``http`` or, for a folder, an empty string.

    :raises ClusterError: if the store has another kind of URL.
    """
    scheme = urlsplit(store).scheme if "://" in store else ""
    if scheme not in ("", "http", "https", "s3"):
        raise ClusterError(f"{store} cannot be the cluster's store: name a folder, http(s):// or s3://bucket/prefix")
    return "http" if scheme == "https" else scheme


def _server_has(store: str, name: str) -> bool:
    import requests

    try:
        return bool(requests.head(f"{store.rstrip('/')}/{name}", timeout=SECONDS, allow_redirects=True).ok)
    except requests.RequestException as error:
        raise ClusterError(f"The cluster's store {store} does not answer: {error}") from None


def _to_server(store: str, packed: Path) -> None:
    import requests

    url = f"{store.rstrip('/')}/{packed.name}"
    try:
        with packed.open("rb") as file:
            answer = requests.put(url, data=file, timeout=SECONDS)
    except requests.RequestException as error:
        raise ClusterError(f"The cluster's store {store} does not answer: {error}") from None
    if not answer.ok:
        raise ClusterError(
            f"{url} is not there, and the server does not take it (PUT: {answer.status_code}). "
            "Put it there: dimple cluster pack FOLDER makes the file"
        )


def _bucket_has(store: str, name: str) -> bool:
    client, bucket, key = _bucket(store, name)
    try:
        client.head_object(Bucket=bucket, Key=key)
    except client.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise ClusterError(f"s3://{bucket}/{key} cannot be asked for: {error}") from None
    except _boto_error() as error:
        raise ClusterError(f"{store} does not answer: {error}") from None
    return True


def _to_bucket(store: str, packed: Path) -> None:
    client, bucket, key = _bucket(store, packed.name)
    try:
        client.upload_file(str(packed), bucket, key)
    except _boto_error() as error:
        raise ClusterError(f"s3://{bucket}/{key} cannot be written: {error}") from None


def _from_bucket(store: str, packed: Path) -> None:
    client, bucket, key = _bucket(store, packed.name)
    try:
        client.download_file(bucket, key, str(packed))
    except _boto_error() as error:
        raise ClusterError(f"s3://{bucket}/{key} cannot be fetched: {error}") from None


def _bucket(store: str, name: str) -> tuple[Any, str, str]:
    """Return a client, the bucket and the key.

    Region, credentials and ``AWS_ENDPOINT_URL`` are read as every AWS program reads them.
    """
    try:
        import boto3
    except ImportError:
        raise ClusterError("s3:// needs boto3: python -m pip install -r requirements-ray.txt") from None
    parts = urlsplit(store)
    key = "/".join(part for part in (parts.path.strip("/"), name) if part)
    return boto3.client("s3"), parts.netloc, key


def _boto_error() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError
