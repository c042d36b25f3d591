"""Does what the request's header ``do`` says: everything that a handler can answer, and every way in which it fails."""

import os
import signal
import sys
import time

from mms.service import PredictionException


class NotSerialisable:
    """Nothing that JSON knows."""


def _body(data):
    return bytes(data[0].get("body", b""))


def memory(data, context):
    raise MemoryError("too large")


def prediction_exception(data, context):
    raise PredictionException("Some Prediction Error", 599)


def prediction_exception_default(data, context):
    raise PredictionException("Some Prediction Error")


def exception(data, context):
    raise KeyError("anything")


def status_507(data, context):
    context.set_response_status(507, "Of the handler's own", 0)
    return ["Invalid response"]


def all_status_404(data, context):
    context.set_all_response_status(404, "Not here")
    return [{"found": False}]


def status_204(data, context):
    context.set_response_status(204, "", 0)
    return [""]


def json_type(data, context):
    context.set_response_content_type(0, "application/json")
    return [{"a": [1, 2.5, None, True]}]


def own_cache(data, context):
    context.set_response_header(0, "Cache-Control", "max-age=60")
    context.set_response_header(0, "X-Own", "yes, mine")
    return ["OK"]


def sleep(data, context):
    time.sleep(float(_body(data)))
    return ["slept"]


def kill(data, context):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(data, context):
    sys.exit(3)


def tell_context(data, context):
    own = context.system_properties
    return [
        {
            "model_name": context.model_name,
            "manifest_name": context.manifest["model"]["modelName"],
            "properties": sorted(own),
            "gpu": own["gpu_id"],
            "batch_size": own["batch_size"],
            "server_name": own["server_name"],
            "in_model_dir": os.path.realpath(os.getcwd()) == os.path.realpath(own["model_dir"]),
            "model_dir_on_path": own["model_dir"] in sys.path,
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "request_ids": len(context.request_ids),
            "id_is_the_header": context.get_request_id(0) != context.get_request_header(0, "x-request-id"),
            "own_header": context.get_request_header(0, "X-Mixed-Case"),
            "processor_is_list": isinstance(context.request_processor, list),
            "content_type": context.get_request_header(0, "Content-Type"),
            "part_types": {key: context.get_request_header(0, key) for key in data[0]},
        }
    ]


def process(data, context):
    return [os.getpid()]


def tell_environment(data, context):
    return [{name: name in os.environ for name in ("PARITY_HIDDEN", "PARITY_SHOWN")}]


def metrics(data, context):
    context.metrics.add_counter("Served", 1)
    context.metrics.add_time("Thought", 12.5, None, "ms")
    context.metrics.add_size("Weighed", 3, None, "MB")
    context.metrics.add_percent("Sure", 99)
    return ["counted"]


ANSWERS = {
    "text": ["plain"],
    "empty text": [""],
    "text beyond ascii": ["Grüße, 猫 <&'>"],
    "bytes": [b"\x00\xff"],
    "bytearray": [bytearray(b"of bytes")],
    "dict": [{"ä": "<&'>", "b": [1, 2.0, 1e-7], "c": None}],
    "list": [["a", 1]],
    "number": [5],
    "float": [0.1],
    "none": [None],
    "true": [True],
    "nan": [float("nan")],
    "not a list": "a text",
    "tuple": ("a",),
    "nothing": None,
    "empty list": [],
    "too many": ["a", "b"],
    "not serialisable": [NotSerialisable()],
    "large": ["x" * 1_000_000],
}
DEEDS = {
    deed.__name__: deed
    for deed in (
        memory, prediction_exception, prediction_exception_default, exception, status_507, all_status_404, status_204,
        json_type, own_cache, sleep, kill, leave, tell_context,
        process, tell_environment, metrics,
    )
}  # fmt: skip


def handle(data, context):
    if data is None:
        return None
    what = context.get_request_header(0, "do") or "text"
    if what in DEEDS:
        return DEEDS[what](data, context)
    return ANSWERS[what]
