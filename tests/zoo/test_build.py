"""Pulls from a real server that truncates, stays silent, sends false lengths, other bytes, redirects and errors."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DownloadError, ModelFormatError
from app.formats.folder import open_model_folder
from app.settings import ROOT, Settings
from app.utils.download import Patience
from app.zoo.build import by_name, pull
from app.zoo.catalogue import CatalogueEntry
from app.zoo.download import Sources
from app.zoo.download import configured_sources as places_of
from tests.helpers import wait_until
from tests.utils.test_download import Reply
from tests.zoo.conftest import CLASSES, SHAPE, SMALL
from tests.zoo.networks import direct, random_batch, served
from tests.zoo.shelf import Shelf, zipped, zipped_names

QUICK = Patience(connect=60, read=60, tries=2, pause=0)
HASTY = Patience(connect=60, read=3, tries=2, pause=0)
Write = Callable[[str, str], CatalogueEntry]


@pytest.fixture
def small_zip(small_params: bytes, small_sha1: str) -> bytes:
    """Return the zip as Gluon publishes it."""
    return zipped_names({f"small-{small_sha1[:8]}.params": small_params})


def models(places: Sources) -> list[str]:
    """Return all entries of the models folder, hidden or not."""
    return sorted(path.name for path in places.models_dir.iterdir())


def stored_files(places: Sources) -> list[str]:
    """Return the files that are stored after a pull, except locks, which are empty."""
    return sorted(path.name for path in places.work_dir.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_pulled_model_answers_as_gluon_does(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes, small_net: Any
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    folder = pull(small, places, patience=QUICK)
    batch = random_batch(SHAPE)
    np.testing.assert_allclose(served(folder, batch), direct(small_net, batch), atol=1e-5)
    assert models(places) == ["small"]
    assert stored_files(places) == []


def test_the_folder_is_an_ordinary_model_folder_with_metadata(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes, small_sha1: str
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    folder = open_model_folder(pull(small, places, name="mine", patience=QUICK))
    assert folder.name == "mine"
    assert folder.signature is not None and folder.labels is not None
    assert folder.signature.inputs[0].shape == (0, *SHAPE)
    assert folder.signature.preprocess.mean == (125.307, 122.961, 113.8575)
    assert folder.labels[:2] == ("airplane", "automobile") and len(folder.labels) == CLASSES
    manifest = json.loads((folder.path / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["modelName"] == "mine"
    facts = json.loads((folder.path / "catalogue.json").read_text())
    assert (facts["name"], facts["checksum"], facts["licence"]) == ("small", f"sha1:{small_sha1}", "Apache-2.0")
    assert facts["from"] == f"{shelf.url}/one"
    readme = (folder.path / "README.md").read_text()
    assert "274,042" in readme and "arxiv.org/abs/1512.03385" in readme and "91.25 %" in readme


def test_a_truncated_download_is_resumed(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", Reply(data=small_zip, cut=100_000), small_zip)
    pull(small, places, patience=QUICK)
    assert shelf.ranges(f"one/{small_path}") == ["", "bytes=100000-"]
    assert shelf.requested_paths() == [f"one/{small_path}"]


def bad_replies(good: bytes, other: bytes) -> dict[str, Reply]:
    name = "small-00000000.params"
    return {
        "not found": Reply(status=404),
        "broken": Reply(status=500),
        "forbidden": Reply(status=403),
        "cut, always": Reply(data=good, cut=5_000, ranges=False),
        "silent": Reply(data=good, cut=5_000, silent=True, ranges=False),
        "longer than it is": Reply(data=good, length=len(good) + 1_000),
        "shorter than it is": Reply(data=good, length=len(good) - 1_000),
        "another file": Reply(data=zipped_names({name: other})),
        "a page": Reply(data=b"<html>Log in to the hotel's network</html>"),
        "a damaged zip": Reply(data=good[:50_000] + bytes(100) + good[50_100:]),
        "no parameters": Reply(data=zipped(readme=b"nothing")),
        "two parameters": Reply(data=zipped_names({name: other, "b.params": other})),
        "a way out": Reply(data=zipped_names({"../../small.params": other})),
        "a ring": Reply(status=302, location="/one/ring"),
    }


@pytest.mark.parametrize("fault", bad_replies(b"", b""))
def test_the_next_source_is_tried_if_a_source_fails(
    fault: str,
    small: CatalogueEntry,
    shelf: Shelf,
    places: Sources,
    small_path: str,
    small_zip: bytes,
    small_params: bytes,
) -> None:
    middle = len(small_params) // 2
    other = small_params[:middle] + bytes([small_params[middle] ^ 1]) + small_params[middle + 1 :]  # a weight's bit
    shelf.put(f"one/{small_path}", bad_replies(small_zip, other)[fault])
    shelf.put("one/ring", Reply(status=302, location="/one/ring"))
    shelf.put(f"two/{small_path}", small_zip)
    folder = pull(small, places, patience=HASTY if fault == "silent" else QUICK)
    assert json.loads((folder / "catalogue.json").read_text())["from"] == f"{shelf.url}/two/"
    assert f"three/{small_path}" not in shelf.requested_paths()
    assert models(places) == ["small"]
    assert stored_files(places) == []


def test_a_redirect_is_followed(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", Reply(status=302, location="/moved"))
    shelf.put("moved", small_zip)
    assert pull(small, places, patience=QUICK).is_dir()
    assert shelf.requested_paths() == ["moved", f"one/{small_path}"]


def test_the_error_names_every_source_if_all_fail_and_nothing_is_left(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_params: bytes
) -> None:
    shelf.put(f"one/{small_path}", Reply(status=404))
    shelf.put(f"two/{small_path}", Reply(data=zipped_names({"small.params": small_params[:-1] + b"\xff"})))
    shelf.put(f"three/{small_path}", b"<html>")
    with pytest.raises(DownloadError) as caught:
        pull(small, places, patience=QUICK)
    message = str(caught.value)
    assert f"{shelf.url}/one: " in message and "404" in message
    assert f"{shelf.url}/two/: " in message and small.checksum[5:] in message
    assert f"{shelf.url}/three/: " in message and "DIMPLE_MIRROR" in message and small_path in message
    assert "\n" not in message and "--source" not in message
    assert models(places) == []
    assert stored_files(places) == []


def test_a_partial_download_is_kept_for_the_next_run(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    cut = Reply(data=small_zip, cut=100_000)
    shelf.put(f"one/{small_path}", cut, Reply(status=503), Reply(status=503), small_zip)
    shelf.put(f"two/{small_path}", Reply(data=small_zip, cut=50_000), Reply(status=503))
    with pytest.raises(DownloadError):
        pull(small, places, patience=QUICK)
    assert models(places) == []
    pull(small, places, patience=QUICK)
    assert shelf.ranges(f"one/{small_path}")[-1] == "bytes=100000-"


def test_a_killed_pull_leaves_no_model_and_the_next_pull_resumes(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes, tmp_path: Path
) -> None:
    shelf.put(f"one/{small_path}", Reply(data=small_zip, cut=200_000, silent=True), small_zip)
    code = f"""
from pathlib import Path
from app.zoo.catalogue import load_catalogue
from app.zoo.download import Sources
from app.zoo.build import pull
where = Sources(Path({str(places.models_dir)!r}), Path({str(places.work_dir)!r}))
pull(load_catalogue(Path({str(tmp_path / "instance")!r})).get("small"), where)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: any(path.stat().st_size == 200_000 for path in places.work_dir.rglob("*.partial")), process)
    finally:
        process.kill()
        process.wait()
    assert models(places) == []
    pull(small, places, patience=QUICK)
    assert shelf.ranges(f"one/{small_path}") == ["", "bytes=200000-"]
    assert models(places) == ["small"]
    assert stored_files(places) == []


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until the condition is true, while the process that makes it so lives."""

    def happened_while_it_lives() -> bool:
        assert process.poll() is None
        return happened()

    wait_until(happened_while_it_lives)


def test_two_concurrent_pulls_download_once(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(pull(small, places, patience=QUICK))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [places.models_dir / "small"] * 4
    assert shelf.ranges(f"one/{small_path}") == [""]


def test_the_same_model_can_be_pulled_under_two_names_at_once(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    threads = [threading.Thread(target=pull, args=(small, places, name), kwargs={"patience": QUICK}) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert models(places) == ["a", "b"]
    assert (places.models_dir / "a" / "small-0000.params").read_bytes() == (
        places.models_dir / "b" / "small-0000.params"
    ).read_bytes()


def test_an_existing_model_is_not_downloaded_again(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    pull(small, places, patience=QUICK)
    pull(small, places, patience=QUICK)
    assert shelf.ranges(f"one/{small_path}") == [""]


def test_another_model_with_the_same_name_is_not_replaced(small: CatalogueEntry, shelf: Shelf, places: Sources) -> None:
    (places.models_dir / "small").mkdir(parents=True)
    (places.models_dir / "small" / "mine.h5").write_bytes(b"mine")
    with pytest.raises(ModelFormatError, match="small is there already, and is not small of the catalogue"):
        pull(small, places, patience=QUICK)
    assert shelf.requested_paths() == []
    assert (places.models_dir / "small" / "mine.h5").read_bytes() == b"mine"


def test_force_replaces_a_model_and_keeps_it_if_the_download_fails(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    (places.models_dir / "small").mkdir(parents=True)
    (places.models_dir / "small" / "mine.h5").write_bytes(b"mine")
    with pytest.raises(DownloadError):
        pull(small, places, force=True, patience=QUICK)
    assert models(places) == ["small"]
    assert (places.models_dir / "small" / "mine.h5").read_bytes() == b"mine"
    shelf.put(f"one/{small_path}", small_zip)
    pull(small, places, force=True, patience=QUICK)
    assert models(places) == ["small"]
    assert not (places.models_dir / "small" / "mine.h5").exists()


@pytest.mark.parametrize("name", ["../small", ".small", "a b", "small/x"])
def test_an_invalid_model_name_is_refused(small: CatalogueEntry, places: Sources, name: str) -> None:
    with pytest.raises(ModelFormatError, match="cannot be a model's name"):
        pull(small, places, name=name, patience=QUICK)


def test_an_undefined_network_is_refused_before_any_download(catalogue: Write, shelf: Shelf, places: Sources) -> None:
    entry = catalogue(
        f"[odd]\nkind = gluon\nnetwork = oddnet\nfile = odd.params\nbases = {shelf.url}\ninput = imagenet", "odd"
    )
    with pytest.raises(ModelFormatError, match="'oddnet'"):
        pull(entry, places, patience=QUICK)
    assert shelf.requested_paths() == []


@pytest.mark.parametrize("layout", ["as at the source", "flat", "unpacked", "unpacked and flat"])
@pytest.mark.parametrize("form", ["folder", "file URL"])
def test_a_folder_can_be_the_mirror_of_an_offline_site(
    layout: str,
    form: str,
    small: CatalogueEntry,
    shelf: Shelf,
    places: Sources,
    tmp_path: Path,
    small_path: str,
    small_zip: bytes,
    small_params: bytes,
) -> None:
    mirror = tmp_path / "brought on a stick"
    paths = {
        "as at the source": small_path,
        "flat": Path(small_path).name,
        "unpacked": small_path.replace(".zip", ".params"),
        "unpacked and flat": Path(small_path).with_suffix(".params").name,
    }
    path = mirror / paths[layout]
    path.parent.mkdir(parents=True)
    path.write_bytes(small_params if path.suffix == ".params" else small_zip)
    location = str(mirror) if form == "folder" else mirror.as_uri()
    folder = pull(small, Sources(places.models_dir, places.work_dir, location), patience=QUICK)
    assert json.loads((folder / "catalogue.json").read_text())["from"] == location
    assert shelf.requested_paths() == []
    assert path.is_file()


def test_the_other_sources_are_tried_if_a_mirror_lacks_the_model(
    small: CatalogueEntry, shelf: Shelf, places: Sources, tmp_path: Path, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    for mirror in (str(tmp_path / "nowhere"), f"{shelf.url}/mirror"):
        pull(small, Sources(places.models_dir, places.work_dir, mirror), force=True, patience=QUICK)
    assert shelf.requested_paths() == [f"mirror/{small_path}", f"one/{small_path}"]


def test_a_mirror_on_the_web_is_tried_first(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"mirror/{small_path}", small_zip)
    shelf.put(f"one/{small_path}", small_zip)
    pull(small, Sources(places.models_dir, places.work_dir, f"{shelf.url}/mirror/"), patience=QUICK)
    assert shelf.requested_paths() == [f"mirror/{small_path}"]


def test_the_password_of_a_mirror_is_used_but_not_stored(
    small: CatalogueEntry, shelf: Shelf, places: Sources, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"mirror/{small_path}", small_zip)
    mirror = f"{shelf.url}/mirror".replace("http://", "http://reader:secret@")
    folder = pull(small, Sources(places.models_dir, places.work_dir, mirror), patience=QUICK)
    assert shelf.site(f"/mirror/{small_path}").requests[0]["Authorization"].startswith("Basic ")
    written = (folder / "catalogue.json").read_text() + (folder / "README.md").read_text()
    assert "secret" not in written and f"{shelf.url}/mirror" in written
    shelf.put(f"mirror/{small_path}", Reply(status=404))
    with pytest.raises(DownloadError) as caught:
        pull(small, Sources(places.models_dir, places.work_dir, mirror), force=True, patience=QUICK)
    assert "secret" not in str(caught.value) and "404" in str(caught.value)


def test_mxnet_gluon_repo_replaces_the_default_source_of_gluon(
    catalogue: Write, shelf: Shelf, tmp_path: Path, small_sha1: str, small_path: str, small_zip: bytes
) -> None:
    entry = catalogue(
        f"[small]\nkind = gluon\nsource = gluon\nnetwork = {SMALL}\nsha1 = {small_sha1}\n"
        "input = cifar10\nlabels = cifar10",
        "small",
    )
    shelf.put(f"repo/{small_path}", small_zip)
    settings = Settings(models_dir=tmp_path / "models", instance_dir=tmp_path / "instance")
    where = places_of(settings, {"MXNET_GLUON_REPO": f"{shelf.url}/repo"})
    assert pull(entry, where, patience=QUICK) == tmp_path / "models" / "small"
    shelf.put(f"repo/{small_path}", Reply(status=404))
    with pytest.raises(DownloadError) as caught:
        pull(entry, where, force=True, patience=QUICK)
    assert "amazonaws" not in str(caught.value)


@pytest.fixture
def checkpoint(small_net: Any, tmp_path: Path) -> tuple[bytes, bytes]:
    """Return the small network as Gluon's ``export`` writes it: symbol and parameters, logits at the end."""
    import mxnet as mx

    small_net.hybridize()
    small_net(mx.nd.zeros((1, *SHAPE)))
    small_net.export(str(tmp_path / "exported"))
    return (tmp_path / "exported-symbol.json").read_bytes(), (tmp_path / "exported-0000.params").read_bytes()


CHECKPOINT = """
[source site]
bases =
    {url}/one
    {url}/two

[loose]
kind = checkpoint
source = site
symbol = deep/loose-symbol.json
params = deep/loose-0007.params
labels = {labels}
input = cifar10
"""


def test_all_files_of_a_checkpoint_come_from_one_source(
    catalogue: Write, shelf: Shelf, places: Sources, checkpoint: tuple[bytes, bytes], small_net: Any
) -> None:
    entry = catalogue(CHECKPOINT.format(url=shelf.url, labels="cifar10"), "loose")
    symbol, params = checkpoint
    shelf.put("one/deep/loose-symbol.json", b"{}")  # of another version, perhaps: its parameters are gone
    shelf.put("two/deep/loose-symbol.json", symbol)
    shelf.put("two/deep/loose-0007.params", params)
    folder = pull(entry, places, patience=QUICK)
    assert (folder / "loose-symbol.json").read_bytes() == symbol
    assert (folder / "loose-0000.params").read_bytes() == params
    signature = open_model_folder(folder).signature
    assert signature is not None and signature.postprocess.activation == "softmax"


def test_an_html_page_instead_of_parameters_is_refused_without_a_checksum(
    catalogue: Write, shelf: Shelf, places: Sources, checkpoint: tuple[bytes, bytes]
) -> None:
    entry = catalogue(CHECKPOINT.format(url=shelf.url, labels="cifar10"), "loose")
    for place in ("one", "two"):
        shelf.put(f"{place}/deep/loose-symbol.json", checkpoint[0])
    shelf.put("one/deep/loose-0007.params", b"<html>Log in</html>" * 100)
    shelf.put("two/deep/loose-0007.params", checkpoint[1][:50_000])
    with pytest.raises(DownloadError, match=r"MXNet parameters.*MXNet parameters"):
        pull(entry, places, patience=QUICK)
    assert models(places) == []


def test_labels_are_read_from_a_file_and_must_match_the_number_of_classes(
    catalogue: Write, shelf: Shelf, places: Sources, checkpoint: tuple[bytes, bytes]
) -> None:
    entry = catalogue(CHECKPOINT.format(url=shelf.url, labels="deep/words.txt"), "loose")
    for path, data in (("symbol.json", checkpoint[0]), ("0007.params", checkpoint[1])):
        shelf.put(f"one/deep/loose-{path}", data)
    words = "".join(f"wörd {number}\n" for number in range(CLASSES))
    shelf.put("one/deep/words.txt", (words + "one too many\n").encode(), words.encode())
    with pytest.raises(DownloadError, match="10 classes apart, but has 11 labels"):
        pull(entry, places, patience=QUICK)
    labels = open_model_folder(pull(entry, places, patience=QUICK)).labels
    assert labels is not None and labels[3] == "wörd 3"


def test_an_archive_is_unpacked_unchanged(catalogue: Write, shelf: Shelf, places: Sources) -> None:
    manifest = {"model": {"modelName": "packed", "handler": "service:handle"}, "runtime": "python"}
    files = {
        "MAR-INF/MANIFEST.json": json.dumps(manifest).encode(),
        "service.py": b"def handle(data, context): return data",
        "README.md": b"mine",
    }
    archive = zipped_names(files)
    digest = hashlib.sha256(archive).hexdigest()
    text = f"[arch]\nkind = archive\nfile = some/arch.mar\nsha256 = {digest.upper()}\nsource = site\n"
    entry = catalogue(f"[source site]\nbases = {shelf.url}/one\n{text}bases = {shelf.url}/flat", "arch")
    shelf.put("one/some/arch.mar", zipped_names(files | {"service.py": b"import evil"}))
    shelf.put("flat/arch.mar", archive)
    folder = pull(entry, places, patience=QUICK)
    assert {path: (folder / path).read_bytes() for path in files} == files
    assert (folder / "catalogue.json").is_file()


def test_the_work_folder_may_be_on_another_file_system(
    small: CatalogueEntry, places: Sources, shelf: Shelf, small_path: str, small_zip: bytes, tmp_path: Path
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    shelf.put(f"one/{small_path}", small_zip)
    work = memory / f"dimple-test-{os.getpid()}"
    try:
        pull(small, Sources(places.models_dir, work), patience=QUICK)
        pull(small, Sources(places.models_dir, work), force=True, patience=QUICK)
        assert models(places) == ["small"]
    finally:
        for path in sorted(work.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        work.rmdir()


def test_an_unwritable_folder_is_reported(small: CatalogueEntry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelFormatError, match="cannot be written"):
        pull(small, Sources(tmp_path / "file" / "models", tmp_path / "work"), patience=QUICK)


def test_the_server_gets_a_function_that_resolves_catalogue_names(
    small: CatalogueEntry, shelf: Shelf, tmp_path: Path, small_path: str, small_zip: bytes
) -> None:
    shelf.put(f"one/{small_path}", small_zip)
    fetch = by_name(Settings(models_dir=tmp_path / "models", instance_dir=tmp_path / "instance"), {})
    assert fetch("nothing-of-the-kind") is None
    assert fetch("SMALL") == tmp_path / "models" / "small"
