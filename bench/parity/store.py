"""The archives that both servers get, rebuilt for every run."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

from bench.parity.machine import Missing
from bench.parity.nets import CLASSES, SIDES

HERE = Path(__file__).parent
SQUEEZENET = "squeezenet_v1.0"
HANDLER = "vision_service:handle"


def make_store(store: Path, python: Path, checkout: Path, models_from: Path | None) -> None:
    """Fill a folder with archives.

    :param python: of MMS's environment, which has ``model-archiver``.
    :param checkout: Dimple's, which has another one.
    :param models_from: a folder that has ``squeezenet_v1.0`` with real weights; None goes without.
    """
    shutil.copytree(HERE / "models", store, ignore=shutil.ignore_patterns("__pycache__"))
    sources = store.parent / "sources"
    _run(str(python), str(HERE / "nets.py"), str(sources))
    if models_from:
        _take(models_from / SQUEEZENET, sources / SQUEEZENET)
    for source in sorted(sources.iterdir()):
        if source.name in SIDES:
            (source / "signature.json").write_text(signature(SIDES[source.name], CLASSES))
        shutil.copy(HERE / "vision" / "vision_service.py", source)
        # each packer's archive is served by both servers
        _pack(python.parent / "model-archiver", source, store / "theirs")
        _pack(checkout / "bin" / "model-archiver", source, store / "ours")
    for packer in ("theirs", "ours"):
        for archive in (store / packer).iterdir():
            archive.rename(store / f"{packer}-{archive.name}")
        (store / packer).rmdir()
    _legacy("tiny_legacy", sources / next(iter(SIDES)), store, checkout)
    if models_from:
        _legacy("squeezenet_legacy", sources / SQUEEZENET, store, checkout)
    _odd(store)


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}{done.stdout[-500:]}")


def _pack(archiver: Path, source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    names = ["--model-name", source.name, "--model-path", str(source), "--handler", HANDLER]
    _run(str(archiver), *names, "--export-path", str(target))


def signature(side: int, classes: int) -> str:
    """Return the signature that MMS needs of a network for pictures."""
    inputs = [{"data_name": "data", "data_shape": [0, 3, side, side]}]
    outputs = [{"data_name": "softmax", "data_shape": [0, classes]}]
    kinds = {"input_type": "image/jpeg", "output_type": "application/json"}
    return json.dumps({"inputs": inputs, "outputs": outputs, **kinds})


def _take(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise Missing(f"{source} is not there; --models-from names the folder that has {SQUEEZENET}")
    shutil.copytree(source, target)
    (target / "signature.json").write_text(signature(224, 1000))


def _legacy(name: str, source: Path, store: Path, checkout: Path) -> None:
    """Make an archive of 0.x by Dimple's ``mxnet-model-export``, with the service that comes with it."""
    plain = store.parent / name
    shutil.copytree(source, plain, ignore=shutil.ignore_patterns("*.py"))
    exporter = str(checkout / "bin" / "mxnet-model-export")
    _run(exporter, "--model-name", name, "--model-path", str(plain), cwd=store)


def _odd(store: Path) -> None:
    """Make archives that nobody should make, and some that are only written in another way."""
    (store / "garbage.mar").write_bytes(b"this is no archive" * 100)
    (store / "empty-file.mar").write_bytes(b"")
    manifest = json.loads((store / "noop-v1.0/MAR-INF/MANIFEST.json").read_text())
    service = (store / "noop-v1.0/service.py").read_bytes()
    _zip(store / "noop-zipped.mar", manifest, "noop_zipped", {"service.py": service})
    _zip(store / "slip.mar", manifest, "slip", {"service.py": service, "../slipped.txt": b"out of the archive"})
    legacy = store / "noop-v0.1"
    with zipfile.ZipFile(store / "nested.model", "w") as archive:
        for file in sorted(legacy.iterdir()):
            archive.write(file, f"noop/{file.name}")


def _zip(path: Path, manifest: dict[str, object], name: str, files: dict[str, bytes]) -> None:
    model = {**manifest["model"], "modelName": name}  # type: ignore[dict-item]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({**manifest, "model": model}))
        for member, content in files.items():
            archive.writestr(member, content)


def pictures(checkout: Path, models_from: Path | None) -> dict[str, bytes]:
    """Return pictures to classify: Dimple's portrait in several formats, and photographs if there are some.

    :param models_from: its neighbours ``../images/*.jpg`` and its own are taken, if any.
    """
    from PIL import Image

    portrait = (checkout / "static" / "astronaut.jpg").read_bytes()
    opened = Image.open(io.BytesIO(portrait))
    found = {"portrait.jpg": portrait}
    for name, mode, kind in (("png", "RGB", "PNG"), ("grey.jpg", "L", "JPEG"), ("bmp", "RGB", "BMP")):
        written = io.BytesIO()
        opened.convert(mode).resize((120, 90)).save(written, kind)
        found[f"portrait.{name}"] = written.getvalue()
    if models_from:
        found |= {path.name: path.read_bytes() for path in sorted(models_from.glob("images/*.jpg"))}
    return found
