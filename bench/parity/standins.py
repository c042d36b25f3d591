"""Archives that replace Multi Model Server's zoo, which is no longer available, and a web server for them.

Each holds a network that answers every picture with the five classes and values that MMS's own tests expect of the
archive whose name it has, packed with the handler that MMS's examples come with.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from app.cli.packers import pack_job
from app.engines.mxnet.compat import prepare
from app.formats.archive.pack import pack
from bench.parity.store import signature

SIDE = 32
Answers = Sequence[Mapping[str, Any]]


def make_archives(folder: Path, checkout: Path, expected: Mapping[str, Answers]) -> None:
    """Write an archive for each URL.

    :param checkout: of Multi Model Server, for its handler.
    :param expected: by the URL of an archive, the ``class`` and ``probability`` of each of its answers.
    """
    template = checkout / "examples" / "model_service_template"
    for url, answers in expected.items():
        name = PurePosixPath(url).stem
        source = folder / "sources" / name
        shutil.copytree(template, source)
        (source / "signature.json").write_text(signature(SIDE, len(answers)))
        (source / "synset.txt").write_text("".join(f"{answer['class']}\n" for answer in answers))
        _write_checkpoint(source / name, [answer["probability"] for answer in answers])
        options = {"runtime": "python", "archive_format": "default", "force": False}
        made = pack(
            pack_job(folder, model_name=name, model_path=source, handler="mxnet_vision_service:handle", **options)
        )
        assert made.name == PurePosixPath(url).name, "the archive is called as its URL says"


def _write_checkpoint(prefix: Path, values: Sequence[float]) -> None:
    """Write a network whose outputs are ``values`` for every picture."""
    prepare()
    import mxnet as mx

    pooled = mx.sym.Pooling(mx.sym.Variable("data"), kernel=(1, 1), global_pool=True, pool_type="avg")
    output = mx.sym.FullyConnected(mx.sym.Flatten(pooled), num_hidden=len(values), name="out")
    arrays = {"out_weight": np.zeros((len(values), 3), np.float32), "out_bias": np.asarray(values, np.float32)}
    mx.model.save_checkpoint(str(prefix), 0, output, {name: mx.nd.array(array) for name, array in arrays.items()}, {})


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine.

    :returns: the URL, without a slash at its end.
    """

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def read_expected(data: Path) -> dict[str, Answers]:
    """Read the expected answers to the requests of a Postman collection, by the URL of the archive that answers."""
    return {row["url"]: row["expected"] for row in json.loads(data.read_text(encoding="utf-8"))}
