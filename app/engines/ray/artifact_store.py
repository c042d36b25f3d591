"""Model folders named by a hash of their content, in a store from which nodes fetch them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from app.errors import ClusterError, ModelFormatError
from app.formats.archive.unpack import unpack
from app.formats.folder import digest_of, model_files
from app.utils.files import file_lock, replacing, swap_folder

SUFFIX = ".zip"
SECONDS = (10, 120)  # for connecting, and for the next bytes


def pack_folder(folder: Path, target: Path) -> None:
    """Pack a model folder into one archive, uncompressed because weights hardly shrink.

    :raises ModelFormatError: if the archive cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial, zipfile.ZipFile(partial, "w", strict_timestamps=False) as archive:
            for path in model_files(folder):
                archive.write(path, path.relative_to(folder).as_posix())
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be put into {target}: {error}") from None


def publish(folder: Path, digest: str, store: str) -> None:
    """Upload a model folder to the store unless it is already there.

    :param store: a folder, ``http(s)://`` or ``s3://bucket/prefix``.
    :raises ClusterError: if the store rejects the upload, with what to do.
    :raises ModelFormatError: if the folder cannot be read, or the archive cannot be written.
    """
    name = digest + SUFFIX
    if "://" not in store:
        if not (Path(store) / name).exists():
            pack_folder(folder, Path(store) / name)
    elif not _request("head", store, name).ok:
        with TemporaryDirectory(prefix="dimple-") as place:
            packed = Path(place) / name
            pack_folder(folder, packed)
            with packed.open("rb") as file:
                answer = _request("put", store, name, data=file)
        if not answer.ok:
            reason = f"{store} refuses {name} (PUT: {answer.status_code})"
            raise ClusterError(f"{reason}. Put it there by other means: dimple cluster pack FOLDER makes the file")


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
                with TemporaryDirectory(prefix=".fetching-", dir=models) as place:
                    unpacked = unpack(_packed(digest + SUFFIX, store, Path(place)), Path(place) / name)
                    if (actual := digest_of(unpacked)) != digest:
                        reason = f"{digest}{SUFFIX} in {store} holds the content {actual[:16]}…"
                        raise ModelFormatError(f"{reason}. Put the model there again")
                    swap_folder(unpacked, folder)
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error}") from None
    return folder


def _packed(name: str, store: str, place: Path) -> Path:
    """Return an archive of the store, downloaded to a folder unless the store is a folder itself."""
    if "://" not in store:
        if (path := Path(store) / name).is_file():
            return path
        raise ClusterError(f"{path} is not there. DIMPLE_CLUSTER_STORE must be a folder of all machines, or a URL")
    answer = _request("get", store, name, stream=True)
    if not answer.ok:
        raise ClusterError(f"{store} does not give {name} (GET: {answer.status_code})")
    with answer, (place / name).open("wb") as file:
        shutil.copyfileobj(answer.raw, file)
    return place / name


def _request(method: str, store: str, name: str, **options: Any) -> Any:
    import requests

    try:
        return requests.request(method, _url(method, store, name), timeout=SECONDS, **options)
    except requests.RequestException as error:  # its text may hold a signature
        raise ClusterError(f"The cluster's store {store} does not answer: {type(error).__name__}") from None


def _url(method: str, store: str, name: str) -> str:
    """Return the URL of an archive; for S3 one with a signature, from what every AWS program reads."""
    parts = urlsplit(store)
    if parts.scheme in ("http", "https"):
        return f"{store.rstrip('/')}/{name}"
    if parts.scheme != "s3":
        raise ClusterError(f"{store} cannot be the cluster's store: name a folder, http(s):// or s3://bucket/prefix")
    try:
        import boto3
        from botocore.client import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ClusterError("s3:// needs boto3: python -m pip install -r requirements-ray.txt") from None
    key = "/".join(part for part in (parts.path.strip("/"), name) if part)
    try:
        client = boto3.client("s3", config=Config(signature_version="s3v4"))
        return str(client.generate_presigned_url(f"{method}_object", {"Bucket": parts.netloc, "Key": key}))
    except BotoCoreError as error:
        raise ClusterError(f"{store} cannot be used: {error}") from None
