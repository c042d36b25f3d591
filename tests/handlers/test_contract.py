"""The arguments of a handler and the use of its results: Multi Model Server's contract."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import HandlerLoadError
from app.handlers.pool import Workers
from app.handlers.types import Field, HandlerAnswer, HandlerRequest, HandlerSpec
from tests.handlers.archives import DEADLINE, archive, request
from tests.handlers.conftest import Run

ECHO = """
    def handle(data, context):
        if data is None:
            return None
        return [{name: [type(value).__name__, str(value)] for name, value in entry.items()} for entry in data]
"""

MISBEHAVING = """
    from mms.service import PredictionException

    class Odd:
        pass

    def handle(data, context):
        if data is None:
            return None
        what = data[0]["body"]
        if what == "raise":
            raise KeyError("shape")
        if what == "memory":
            raise MemoryError
        if what == "refuse":
            raise PredictionException("Some Prediction Error", 599)
        return {
            "str": "a string",
            "tuple": ("one",),
            "two": ["one", "two"],
            "odd": [Odd()],
            "deep odd": [{"values": [1, {2, 3}]}],
            "surrogate": ["\\ud800"],
            "fine": ["fine"],
        }[what]
"""


def never(leaving: threading.Event, seconds: float) -> None:
    """Pause until the worker is to end."""
    leaving.wait()


def error_of(answer: HandlerAnswer) -> tuple[int, str, str]:
    assert answer.error is not None
    assert answer.body == b""
    return answer.status, *answer.error


def test_a_function_is_called_once_without_data_and_then_for_each_batch(tmp_path: Path, run: Run) -> None:
    code = """
        calls = []
        def handle(data, context):
            calls.append(None if data is None else len(data))
            return [str(calls)] * len(data or ())
    """
    workers = run(archive(tmp_path, {"service.py": code}))
    first, second = workers.predict([request(), request()])
    assert (first.body, second.body) == (b"[None, 2]", b"[None, 2]")
    assert workers.predict([request()])[0].body == b"[None, 2, 1]"


@pytest.mark.parametrize(
    "handler",
    ["svc.handler:handle", "svc:handle", "svc/handler.py:handle", "{}/svc/handler.py:handle", "shared.handler:handle"],
)
def test_a_handler_may_be_in_a_package_beside_the_model_or_on_the_servers_path(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, handler: str
) -> None:
    code = """
        import words
        def handle(data, context):
            return [words.ANSWER] * len(data or ())
    """
    model = archive(
        tmp_path / "model",
        {"svc/__init__.py": "from svc.handler import handle", "svc/handler.py": code, "svc/words.py": "ANSWER = 'svc'"},
    )
    package = {"shared/__init__.py": "", "shared/handler.py": code, "words.py": "ANSWER = 'shared'"}
    monkeypatch.setenv("PYTHONPATH", str(archive(tmp_path / "path", package)))
    if handler == "svc.handler:handle":  # only a path or the package's own name puts the package's folder on sys.path
        (model / "words.py").write_text("ANSWER = 'svc'")
        monkeypatch.setenv("PYTHONPATH", "")
    named = handler.format(model)
    answer = run(model, named).predict([request()])[0]
    assert answer.body == (b"shared" if named.startswith("shared") else b"svc"), answer


def test_the_only_class_of_a_module_is_the_handler(tmp_path: Path, run: Run) -> None:
    code = """
        from collections import OrderedDict

        class Model:
            def initialize(self, context):
                self.name = context.system_properties["model_dir"].split("/")[-1]

            def handle(self, data, context):
                return [OrderedDict(name=self.name)] * len(data)
    """
    workers = run(archive(tmp_path / "dir", {"code/service.py": code}), "code/service.py")
    assert json.loads(workers.predict([request()])[0].body) == {"name": "dir"}


def test_a_module_with_two_classes_and_no_function_does_not_load(tmp_path: Path, run: Run) -> None:
    folder = archive(tmp_path, {"service.py": "class A:\n    pass\n\nclass B:\n    pass\n"})
    with pytest.raises(HandlerLoadError, match=r"Expected only one class.*service\.A.*service\.B") as raised:
        run(folder, "service", pause=never)
    assert raised.value.mms_status == 500


def test_an_error_in_initialize_is_remembered_but_the_model_counts_as_loaded(tmp_path: Path, run: Run) -> None:
    code = """
        class Model:
            def initialize(self, context):
                raise ValueError("no weights")

            def handle(self, data, context):
                return ["still here"]
    """
    workers = run(archive(tmp_path, {"service.py": code}), "service")
    assert workers.predict([request()])[0].body == b"still here"
    assert "ValueError: no weights" in workers.statuses()[0].last_error


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        ("raise MemoryError", 507, "MemoryError"),
        ("raise ValueError('no weights')", 500, "ValueError: no weights"),
        ("import nowhere_to_be_found", 500, "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(3)", 500, "The worker ended by itself with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 500, "The worker was killed by signal 9"),
    ],
)
def test_a_function_that_raises_at_load_fails_the_load(
    tmp_path: Path, run: Run, raised: str, code: int, reason: str
) -> None:
    folder = archive(tmp_path, {"service.py": f"def handle(ctx, data):\n    {raised}\n"})
    workers = run(folder, count=0, pause=never)
    with pytest.raises(HandlerLoadError) as error:
        workers.start(1, DEADLINE)
    assert error.value.mms_status == code
    assert error.value.reason.startswith(reason)
    (status,) = workers.statuses()
    assert status.state == "FAILED"
    assert status.last_error.startswith(reason)


def test_requests_do_not_wait_for_a_model_that_cannot_be_loaded(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": "1 / 0"}), count=0, pause=never)
    with pytest.raises(HandlerLoadError):
        workers.start(1, DEADLINE)
    (answer,) = workers.predict([request()])
    assert error_of(answer) == (
        503,
        "ServiceUnavailableException",
        "No worker is available to serve request for model: model. Consider increasing job queue size. "
        "Its worker could not start: ZeroDivisionError: division by zero.",
    )


def test_requests_waiting_for_a_load_that_fails_are_refused(tmp_path: Path, run: Run) -> None:
    os.mkfifo(tmp_path / "go on")
    workers = run(archive(tmp_path, {"service.py": "open('go on', 'rb').close()\n1 / 0\n"}), count=0, pause=never)
    workers.start(1, 0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(workers.predict, [request()])
        (tmp_path / "go on").write_bytes(b"")
        (answer,) = waiting.result(DEADLINE)
    assert error_of(answer)[:2] == (503, "ServiceUnavailableException")


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("raise", 503, "Prediction failed"),
        ("memory", 507, "Out of resources"),
        ("refuse", 599, "Some Prediction Error"),
        ("str", 503, "Invalid model predict output"),
        ("tuple", 503, "Invalid model predict output"),
        ("two", 503, "number of batch response mismatched"),
        ("odd", 503, "Unsupported model output data type."),
        ("deep odd", 503, "Unsupported model output data type."),
        ("surrogate", 503, "Unsupported model output data type."),
    ],
)
def test_each_fault_of_a_handler_has_its_own_error(misbehaving: Workers, what: str, status: int, message: str) -> None:
    (answer,) = misbehaving.predict([request(what.encode(), "text/plain")])
    assert error_of(answer) == (status, "InternalServerException", message)
    (after,) = misbehaving.predict([request(b"fine", "text/plain")])
    assert after.body == b"fine"
    assert misbehaving.statuses()[0].restarts == 0


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = archive(tmp_path_factory.mktemp("misbehaving"), {"service.py": MISBEHAVING})
    workers = Workers(HandlerSpec("model", folder, "service:handle"))
    workers.start(1, DEADLINE)
    yield workers
    workers.close(DEADLINE)


def test_fields_are_decoded_by_their_content_type(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": ECHO}))
    fields = (
        Field("json", "application/json; charset=utf-8", b'{"a": [1, 2.5]}', True),
        Field("text", "text/csv", "é,1".encode(), True),
        Field("picture", "image/jpeg", b"\xff\xd8", True),
        Field("none", "", b"x", True),
        Field("like", "application/json-patch", b"[]", True),
        Field("plain", "application/json", b"[1]", False),
        Field("twice", "text/plain", b"first", True),
        Field("twice", "text/plain", b"last", True),
    )
    (answer,) = workers.predict([HandlerRequest("r0", fields)])
    assert json.loads(answer.body) == {
        "json": ["dict", "{'a': [1, 2.5]}"],
        "text": ["str", "é,1"],
        "picture": ["bytearray", "bytearray(b'\\xff\\xd8')"],
        "none": ["bytearray", "bytearray(b'x')"],
        "like": ["bytearray", "bytearray(b'[]')"],
        "plain": ["bytearray", "bytearray(b'[1]')"],
        "twice": ["str", "last"],
    }


def test_nothing_is_decoded_if_decoding_is_off(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": ECHO}), decode_input_request=False)
    (answer,) = workers.predict([request(b'{"a": 1', "application/json")])
    assert json.loads(answer.body) == {"body": ["bytearray", "bytearray(b'{\"a\": 1')"]}


def test_a_request_that_cannot_be_decoded_is_refused_and_its_batch_goes_on(tmp_path: Path, run: Run) -> None:
    workers = run(archive(tmp_path, {"service.py": ECHO}))
    broken = request(b'{"a": ', "application/json")
    nested = request(b"[" * 100_000, "application/json")
    latin = request(b"\xe9", "text/plain")
    answers = workers.predict([broken, request(b"1", "application/json"), nested, latin])
    assert json.loads(answers[1].body) == {"body": ["int", "1"]}
    for index, kind in ((0, "application/json"), (2, "application/json"), (3, "text/plain")):
        status, name, message = error_of(answers[index])
        assert (status, name) == (400, "InvalidInput")
        assert message.startswith(f"The field 'body' is not {kind}: ")


def test_results_are_sent_as_bytes_as_text_or_as_json(tmp_path: Path, run: Run) -> None:
    code = r"""
        def handle(data, context):
            scores = [{"class": "cat", "probability": 0.5}]
            return [b"\x00\xff", bytearray(b"ab"), "é", scores, None, 3][: len(data or ())]
    """
    answers = run(archive(tmp_path, {"service.py": code})).predict([request()] * 6)
    assert [answer.body for answer in answers] == [
        b"\x00\xff",
        b"ab",
        b"\xc3\xa9",
        b'[\n  {\n    "class": "cat",\n    "probability": 0.5\n  }\n]',
        b"null",
        b"3",
    ]
    assert {(answer.status, answer.content_type, answer.error) for answer in answers} == {(200, None, None)}


def test_the_context_describes_the_model_and_the_requests(tmp_path: Path, run: Run) -> None:
    code = """
        import os

        def handle(data, context):
            if data is None:
                assert context.request_processor is None and context.metrics is not None
                context.set_response_status(500)
                return None
            return [
                [
                    context.model_name, context.manifest, context.system_properties, os.getcwd(),
                    context.get_request_id(index), context.request_ids,
                    context.get_request_header(index, "x-color"), context.get_request_header(index, "X-COLOR"),
                    context.get_all_request_header(index)["body"], context.get_request_header(index, "none"),
                    type(context.request_processor).__name__,
                    context.request_processor[index].get_request_property("x-Color"),
                ]
                for index in range(len(data))
            ]
    """
    manifest = {"model": {"modelName": "archived"}}
    folder = archive(tmp_path, {"service.py": code, "MAR-INF/MANIFEST.json": json.dumps(manifest)})
    workers = run(folder, model_name="registered", batch_size=4)
    batch = [request(b"", "image/png", {"X-Color": "red"}, "id-0"), request(request_id="id-1")]
    first, second = (json.loads(answer.body) for answer in workers.predict(batch))
    properties = {
        "model_dir": str(tmp_path),
        "gpu_id": None,
        "batch_size": 4,
        "server_name": "MMS",
        "server_version": "1.1.11",
    }
    ids = {"0": "id-0", "1": "id-1"}
    about = ["registered", manifest, properties, str(tmp_path)]
    red = ["red", "red", {"content-type": "image/png"}, None, "list", "red"]
    assert first == [*about, "id-0", ids, *red]
    assert second == [*about, "id-1", ids, None, None, {"content-type": "application/octet-stream"}, None, "list", None]


def test_a_handler_sets_status_headers_and_content_type(tmp_path: Path, run: Run) -> None:
    code = r"""
        def handle(data, context):
            if data is None:
                return None
            context.set_response_status(507, "Full", 1)
            context.set_response_content_type(0, "text/plain")
            context.set_response_header(0, "dummy", "1")
            context.set_response_header(0, "count", 2)
            context.set_response_header(0, "split", "a\r\nSet-Cookie: b")
            context.set_response_header(1, "Content-Type", "image/png")
            context.set_response_status("broken", idx=2)
            return ["OK", "Invalid response", "third"]
    """
    answers = run(archive(tmp_path, {"service.py": code})).predict([request()] * 3)
    assert answers == [
        HandlerAnswer(200, "", {"dummy": "1", "count": "2", "split": "a Set-Cookie: b"}, "text/plain", b"OK"),
        HandlerAnswer(507, "Full", {}, "image/png", b"Invalid response"),
        HandlerAnswer(200, "", {}, None, b"third"),
    ]


def test_metrics_are_separated_from_other_output(tmp_path: Path, run: Run) -> None:
    code = """
        from mms.metrics.dimension import Dimension

        def handle(data, context):
            if data is not None:
                context.metrics.add_counter("Seen", 2, dimensions=[Dimension("Kind", "cat")])
                context.metrics.add_counter("Seen", 3, dimensions=[Dimension("Kind", "cat")])
                context.metrics.add_time("Step", 1.5, idx=1)
                print("not a metric")
            return ["x"] * len(data or ())
    """
    metrics: list[str] = []
    workers = run(archive(tmp_path, {"service.py": code}), on_metric=metrics.append)
    workers.predict([request(request_id="a"), request(request_id="b")])
    assert workers.close(DEADLINE)
    seen, step, took = metrics
    assert seen.startswith("Seen.Count:5|#Kind:cat,ModelName:model,Level:Model|#hostname:")
    assert seen.endswith(",a,b")
    assert step.startswith("Step.Milliseconds:1.5|#ModelName:model,Level:Model|#hostname:")
    assert step.endswith(",b")
    assert took.startswith("PredictionTime.Milliseconds:")


def test_names_removed_from_libraries_are_restored(tmp_path: Path, run: Run) -> None:
    code = """
        import collections, time
        import numpy as np
        from PIL import Image

        def handle(data, context):
            time.clock()
            names = [np.bool, np.int, np.float, np.object, collections.Iterable, Image.ANTIALIAS]
            return [len(names)] * len(data or ())
    """
    assert run(archive(tmp_path, {"service.py": code})).predict([request()])[0].body == b"6"
