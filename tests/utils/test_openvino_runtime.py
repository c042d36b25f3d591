from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from app.engines.openvino import OpenvinoEngine
from app.utils.openvino_runtime import drop_page_cache, import_openvino
from tests.engines.test_openvino import forward, model, pictures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is given back")


def resident_kilobytes(path: Path) -> int:
    """Return what proc(5) states about a file's mappings in ``smaps``; -1 if it is not mapped."""
    found, mine = -1, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line[:1].isdigit() or line[:1] in "abcdef":
            mine = line.endswith(f" {path}")
        elif mine and line.startswith("Rss:"):
            found = max(found, 0) + int(line.split()[1])
    return found


def test_the_file_of_a_compiled_network_takes_no_memory(tmp_path: Path) -> None:
    import_openvino().save_model(model(), tmp_path / "model.xml", compress_to_fp16=False)
    engine = OpenvinoEngine.load(tmp_path / "model.xml", milliseconds=10)
    assert resident_kilobytes(tmp_path / "model.bin") in (0, -1)
    assert engine.predict(pictures(3)) == pytest.approx(forward(pictures(3)), abs=1e-5)


def test_released_pages_are_read_from_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(np.arange(100_000, dtype=np.int64).tobytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[8::4096]) > 0 and resident_kilobytes(path) > 700
        drop_page_cache(path)
        assert resident_kilobytes(path) == 0
        assert np.frombuffer(mapped[-8:], np.int64)[0] == 99_999


def test_writable_mappings_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(4096))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[0] = 7  # in a copy of the page, which the file does not have
        drop_page_cache(path)
        assert mapped[0] == 7
