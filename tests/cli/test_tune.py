from __future__ import annotations

import http.server
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from app.cli.tune import LoadResult, Result, best, measure_load, percentile, picture, server_processes, table, tune
from app.errors import LaunchError
from app.settings import ROOT, read_settings
from tests.cli.test_predict import make_app, write_shade_model
from tests.conftest import CACHE


def result(workers: int, lone: float, crowd: float) -> Result:
    return Result(workers, 0, LoadResult(lone, 1, 1), LoadResult(crowd, 1, 1))


def test_the_default_is_tried_first_and_nothing_that_exceeds_the_memory() -> None:
    assert server_processes(8, 100) == [8, 1, 4, 16]
    assert server_processes(2, 3) == [2, 1]
    assert server_processes(1, 1) == [1]
    assert server_processes(4, 0) == [1]


def test_a_combination_must_be_clearly_better_than_its_predecessors() -> None:
    usual, little, much = result(2, 100, 100), result(1, 104, 104), result(4, 90, 150)
    assert best([usual, little]) is usual
    assert best([usual, little, much]) is much  # sqrt(90 * 150) = 116
    assert best([usual, result(4, 50, 150)]) is usual  # sqrt(50 * 150) = 87


def test_the_table_marks_the_chosen_combination() -> None:
    one, other = result(1, 10, 20), result(2, 30, 40)
    lines = table([one, other], other)
    assert [line[0] for line in lines] == [" ", " ", "*"]
    assert lines[2].split() == ["*", "2", "enough", "30.0", "1.0", "40.0", "1.0", "1.0"]


def test_percentiles_are_computed_by_nearest_rank() -> None:
    """The example of Wikipedia's article on percentiles."""
    values = [20, 15, 50, 35, 40]
    assert [percentile(values, part) for part in (5, 30, 40, 50, 100)] == [15, 20, 20, 35, 50]


def test_the_picture_is_a_deterministic_jpeg() -> None:
    with Image.open(io.BytesIO(picture())) as image:
        assert (image.format, image.size) == ("JPEG", (640, 480))
    assert picture() == picture()


class Counter(http.server.BaseHTTPRequestHandler):
    """A server that answers everything, and counts; after the third answer it refuses if configured to."""

    protocol_version = "HTTP/1.1"
    answers = 0
    refuses = False
    lock = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            type(self).answers += 1
        refused = self.refuses and self.answers > 3
        self.send_response(503 if refused else 200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"full" if refused else b"fine")

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("refuses", [False, True])
def test_every_response_is_counted_and_a_refusal_is_an_error(refuses: bool) -> None:
    class Handler(Counter): ...

    Handler.refuses = refuses
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            if refuses:
                with pytest.raises(LaunchError, match="503 full"):
                    measure_load(server.server_port, "/x", b"picture", 2, 0.2)
                return
            began = time.monotonic()
            found = measure_load(server.server_port, "/x", b"picture", 2, 0.2)
            assert Handler.answers / (time.monotonic() - began) <= found.per_second <= Handler.answers / 0.2
            assert 0 < found.p50 <= found.p99
        finally:
            server.shutdown()
            thread.join()


def test_real_servers_are_measured_and_the_best_is_written_into_the_settings(tmp_path: Path) -> None:
    instance = tmp_path / "instance"
    instance.mkdir()
    (instance / "settings.env").write_text("# mine\nDIMPLE_PORT=9000\nDIMPLE_WORKERS=7\n")
    write_shade_model(tmp_path / "models" / "shade")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DIMPLE_")}
    environ |= {"DIMPLE_MODELS_DIR": str(tmp_path / "models"), "DIMPLE_INSTANCE_DIR": str(instance)}
    environ |= {"DIMPLE_CACHE_DIR": str(CACHE)}
    command = [sys.executable, str(ROOT / "bin" / "dimple"), "tune", "shade", "--seconds", "0.2", "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.replace("*", " ").split() for line in done.stdout.splitlines()[1:3]]
    assert [row[0] for row in rows] == ["1", "1"]
    assert all(float(figure) > 0 for row in rows for figure in row[2:])
    settings = read_settings({"DIMPLE_INSTANCE_DIR": str(instance)})
    assert (settings.port, settings.workers) == (9000, 1)
    written = (instance / "settings.env").read_text().splitlines()
    assert written[:2] == ["# mine", "DIMPLE_PORT=9000"]
    assert [line for line in written if line.startswith("DIMPLE_WORKERS")] == ["DIMPLE_WORKERS=1"]
    assert sum(line.startswith("# tuned:") for line in written) == 4
    assert [path.name for path in instance.iterdir() if path.name.startswith("tuning-")] == []


def test_a_missing_model_is_reported_at_once(tmp_path: Path) -> None:
    done = make_app(tmp_path / "app").test_cli_runner().invoke(tune, ["nothing"])
    assert done.exit_code == 1
    assert "Model not found: nothing" in done.stderr
