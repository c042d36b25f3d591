"""The transfer of model files to nodes by a folder, a web server or a bucket, with their verification."""

from __future__ import annotations

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.engines.ray.artifact_store import fetch, publish
from app.errors import ClusterError, ModelFormatError
from app.formats.folder import digest_of
from app.settings import ROOT
from tests.engines.ray.stores import store_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    (made / "MAR-INF").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"abc")
    (made / "MAR-INF" / "MANIFEST.json").write_bytes(b"{}")
    return made


def test_the_digest_covers_paths_lengths_and_hashes_in_order(folder: Path) -> None:
    # sha256 of "abc" is in FIPS 180-2, appendix B.1
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    empty = hashlib.sha256(b"{}").hexdigest()
    expected = hashlib.sha256(f"MAR-INF/MANIFEST.json\x002\x00{empty}\na.txt\x003\x00{abc}\n".encode()).hexdigest()
    assert digest_of(folder) == expected


def test_hidden_files_and_dates_do_not_change_the_digest(folder: Path) -> None:
    before = digest_of(folder)
    (folder / ".lock").write_text("x")
    (folder / "a.txt").touch()
    assert digest_of(folder) == before


@pytest.mark.parametrize("change", ["content", "name", "folder"])
def test_any_change_changes_the_digest(folder: Path, change: str) -> None:
    before = digest_of(folder)
    if change == "content":
        (folder / "a.txt").write_bytes(b"abd")
    else:
        (folder / "a.txt").rename(folder / ("b.txt" if change == "name" else "MAR-INF/a.txt"))
    assert digest_of(folder) != before


MODEL = ROOT / "models" / "smile"


@pytest.fixture(scope="module")
def digest() -> str:
    return digest_of(MODEL)


def test_a_model_published_to_a_shared_folder_can_be_fetched(tmp_path: Path, digest: str) -> None:
    publish(MODEL, digest, str(tmp_path / "store"))
    folder = fetch(digest, str(tmp_path / "store"), "smile", tmp_path / "node")
    assert folder.name == "smile" and digest_of(folder) == digest
    assert (folder / "smile.h5").read_bytes() == (MODEL / "smile.h5").read_bytes()


def test_a_model_on_the_node_is_not_fetched_again_unless_it_is_damaged(tmp_path: Path, digest: str) -> None:
    publish(MODEL, digest, str(tmp_path / "store"))
    fetch(digest, str(tmp_path / "store"), "smile", tmp_path / "node")
    shutil.move(tmp_path / "store", tmp_path / "away")
    folder = fetch(digest, str(tmp_path / "store"), "smile", tmp_path / "node")
    (folder / "synset.txt").write_text("cat\ndog\n")
    with pytest.raises(ClusterError, match="DIMPLE_CLUSTER_STORE"):
        fetch(digest, str(tmp_path / "store"), "smile", tmp_path / "node")
    shutil.move(tmp_path / "away", tmp_path / "store")
    folder = fetch(digest, str(tmp_path / "store"), "smile", tmp_path / "node")
    assert (folder / "synset.txt").read_bytes() == (MODEL / "synset.txt").read_bytes()


def test_a_model_is_uploaded_only_if_the_web_server_lacks_it(tmp_path: Path, digest: str) -> None:
    with store_server() as server:
        publish(MODEL, digest, server.url + "/models/")
        publish(MODEL, digest, server.url + "/models/")
        folder = fetch(digest, server.url + "/models/", "smile", tmp_path / "node")
    name = f"/models/{digest}.zip"
    assert server.requests == [("HEAD", name), ("PUT", name), ("HEAD", name), ("GET", name)]
    assert digest_of(folder) == digest


def test_an_upload_refused_by_the_web_server_is_reported_with_the_next_step(digest: str) -> None:
    with store_server(takes=False) as server, pytest.raises(ClusterError, match=r"405.*dimple cluster pack"):
        publish(MODEL, digest, server.url)


def test_wrong_content_under_the_right_name_is_refused(tmp_path: Path, digest: str) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(MODEL, wrong)
    (wrong / "synset.txt").write_text("cat\ndog\n")
    publish(wrong, digest, str(tmp_path / "store"))
    with pytest.raises(ModelFormatError, match="holds the content"):
        fetch(digest, str(tmp_path / "store"), "smile", tmp_path / "node")
    assert [path for path in (tmp_path / "node").rglob("*") if not path.name.startswith(".")] == [
        tmp_path / "node" / digest
    ]


@pytest.mark.parametrize("store", ["ftp://example.org/models", "gs://bucket"])
def test_other_kinds_of_urls_are_refused(store: str, digest: str) -> None:
    with pytest.raises(ClusterError, match="s3://bucket/prefix"):
        publish(MODEL, digest, store)


@pytest.mark.skipif(find_spec("boto3") is None, reason="requirements-ray.txt is not installed")
def test_requests_to_a_bucket_are_signed(tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with store_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "who")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        publish(MODEL, digest, "s3://bucket/dimple")
        folder = fetch(digest, "s3://bucket/dimple", "smile", tmp_path / "node")
    assert all(path.startswith(f"/bucket/dimple/{digest}.zip?") for _, path in server.requests)
    assert all("X-Amz-Credential=who%2F" in path and "X-Amz-Signature=" in path for _, path in server.requests)
    assert [method for method, _ in server.requests] == ["HEAD", "PUT", "GET"]
    assert digest_of(folder) == digest


@pytest.mark.skipif(find_spec("boto3") is not None, reason="requirements-ray.txt is installed")
def test_a_bucket_without_its_library_is_an_error_that_says_what_to_install(digest: str) -> None:
    with pytest.raises(ClusterError, match=r"requirements-ray\.txt"):
        publish(MODEL, digest, "s3://bucket/dimple")
