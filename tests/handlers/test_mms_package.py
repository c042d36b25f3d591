"""The package that archives import, against NumPy, OpenCV, Pillow and values worked out by hand."""

from __future__ import annotations

import ast
import base64
import importlib
import io
import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.engines.mxnet.compat import prepare, quietly
from app.settings import ROOT

SITE = ROOT / "app/handlers/runtime"
PICTURE = np.random.default_rng(3).integers(0, 256, (12, 20, 3), dtype=np.uint8)

Module = Callable[[str], Any]


@pytest.fixture(scope="module")
def module() -> Iterator[Module]:
    """Import from the package, which is on no path but this fixture's."""
    prepare()
    sys.path.insert(0, str(SITE))
    try:
        with quietly():
            yield importlib.import_module
    finally:
        sys.path.remove(str(SITE))
        for name in [name for name in sys.modules if name.partition(".")[0] == "mms"]:
            del sys.modules[name]


def encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def array(values: Any) -> Any:
    from mxnet import nd

    return nd.array(values, dtype=np.asarray(values).dtype)


def test_every_name_of_the_contract_can_be_imported(module: Module) -> None:
    names = {
        "mms": ["__version__"],
        "mms.context": ["Context", "RequestProcessor"],
        "mms.service": ["Service", "PredictionException", "emit_metrics"],
        "mms.metrics.dimension": ["Dimension"],
        "mms.metrics.metric": ["Metric"],
        "mms.metrics.metrics_store": ["MetricsStore"],
        "mms.metrics.unit": ["Units"],
        "mms.metrics": ["system_metrics"],
        "mms.metrics.metric_encoder": ["MetricEncoder"],
        "mms.protocol.otf_message_handler": [
            *("retrieve_msg", "create_load_model_response", "create_predict_response", "encode_response_headers"),
        ],
        "mms.model_loader": ["ModelLoaderFactory", "MmsModelLoader", "LegacyModelLoader"],
        "mms.model_service": ["model_service", "mxnet_model_service", "mxnet_vision_service", "gluon_vision_service"],
        "mms.model_service.model_service": ["ModelService", "SingleNodeService"],
        "mms.model_service.mxnet_model_service": ["MXNetBaseService", "SingleNodeService"],
        "mms.model_service.mxnet_vision_service": ["MXNetVisionService"],
        "mms.model_service.gluon_vision_service": ["GluonVisionService"],
        "mms.utils.mxnet": ["image", "ndarray", "nlp"],
        "mms.utils.timeit_decorator": ["timeit"],
        "mms.version": ["__version__"],
    }
    for owner, members in names.items():
        for name in members:
            exec(f"from {owner} import {name}", {})
    assert module("mms").__version__ == "1.1.11"


@pytest.mark.parametrize("path", sorted(SITE.rglob("*.py")), ids=lambda path: str(path.relative_to(SITE)))
def test_the_handler_runtime_imports_nothing_of_the_server(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.split(".")[0] == "app"]
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] != "app"


def test_pictures_are_read_in_colour_and_in_grey(module: Module) -> None:
    image = module("mms.utils.mxnet.image")
    data = encoded(PICTURE, "png")
    np.testing.assert_array_equal(image.read(data).asnumpy(), PICTURE)
    np.testing.assert_array_equal(image.read(bytearray(data), to_rgb=False).asnumpy(), PICTURE[..., ::-1])
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)
    np.testing.assert_array_equal(image.read(encoded(grey, "png"), 0).asnumpy(), grey[..., None])
    smooth = cv2.resize(PICTURE, (64, 48), interpolation=cv2.INTER_CUBIC)
    with Image.open(io.BytesIO(encoded(smooth, "jpeg"))) as luma:
        luma.draft("L", luma.size)  # the decoder's own, not one computed from RGB
        ours = image.read(encoded(smooth, "jpeg"), 0).asnumpy()[..., 0].astype(int)
        assert np.abs(ours - np.asarray(luma)).max() <= 1


@pytest.mark.parametrize(
    ("interp", "name"),
    [(0, "INTER_NEAREST"), (1, "INTER_LINEAR"), (2, "INTER_CUBIC"), (3, "INTER_AREA"), (4, "INTER_LANCZOS4")],
)
def test_resizing_numbers_interpolations_as_opencv_does(module: Module, interp: int, name: str) -> None:
    image = module("mms.utils.mxnet.image")
    ours = image.resize(array(PICTURE), 7, 9, interp).asnumpy()
    theirs = cv2.resize(PICTURE, (7, 9), interpolation=getattr(cv2, name))
    assert ours.shape == (9, 7, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    if interp == 2:
        np.testing.assert_array_equal(image.resize(array(PICTURE), 7, 9).asnumpy(), ours)


def test_crops_are_given_by_column_row_width_and_height(module: Module) -> None:
    image = module("mms.utils.mxnet.image")
    piece = PICTURE[2:7, 3:13]
    np.testing.assert_array_equal(image.fixed_crop(array(PICTURE), 3, 2, 10, 5).asnumpy(), piece)
    resized = image.fixed_crop(array(PICTURE), 3, 2, 10, 5, (4, 6)).asnumpy()
    theirs = cv2.resize(np.ascontiguousarray(piece), (4, 6), interpolation=cv2.INTER_CUBIC)
    assert np.abs(resized.astype(int) - theirs).max() <= 1


def test_colours_are_normalised_and_axes_transposed(module: Module) -> None:
    image = module("mms.utils.mxnet.image")
    mean, std = np.array([1, 2, 3], "f4"), np.array([4, 5, 6], "f4")
    ours = image.color_normalize(array(PICTURE), array(mean), array(std)).asnumpy()
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, (PICTURE.astype("f4") - mean) / std, rtol=1e-6)
    np.testing.assert_array_equal(image.color_normalize(array(PICTURE), array(mean)).asnumpy(), PICTURE - mean)
    batch = image.transform_shape(array(PICTURE)).asnumpy()
    np.testing.assert_array_equal(batch, PICTURE.transpose(2, 0, 1)[None])
    np.testing.assert_array_equal(image.transform_shape(array(PICTURE), "NHWC").asnumpy(), PICTURE[None])


def test_pictures_are_written_in_base64(module: Module) -> None:
    image = module("mms.utils.mxnet.image")

    def decoded(text: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(text)))

    colour = decoded(image.write(array(PICTURE.transpose(2, 0, 1).astype("f4")), format="png"))
    assert (colour.mode, colour.format) == ("RGB", "PNG")
    np.testing.assert_array_equal(np.asarray(colour), PICTURE)
    grey = decoded(image.write(array(PICTURE[..., :1]), flag=0, dim_order="HWC"))
    assert (grey.mode, grey.format, grey.size) == ("L", "JPEG", (20, 12))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 4, 1, 1)])
def test_the_largest_scores_come_first(module: Module, shape: tuple[int, ...]) -> None:
    top = module("mms.utils.mxnet.ndarray").top_probability
    scores = array(np.array([0.125, 0.5, 0.25, 0.0625], "f4").reshape(shape))
    expected = [{"probability": 0.5, "class": "b"}, {"probability": 0.25, "class": "c"}]
    assert top(scores, "abcd", top=2) == expected
    assert len(top(scores, "abcd")) == 4
    assert list(top(scores, "abcd")[0]) == ["probability", "class"]


def test_only_the_first_row_counts(module: Module) -> None:
    top = module("mms.utils.mxnet.ndarray").top_probability
    assert top(array(np.array([[0.25, 0.75], [1, 0]], "f4")), "ab", 1) == [{"probability": 0.75, "class": "b"}]


def test_sentences_are_encoded_as_numbers(module: Module) -> None:
    encode = module("mms.utils.mxnet.nlp").encode_sentences
    assert encode([["a", "b", "a"], ["c", "\n"]]) == ([[0, 1, 0], [2, -1]], {"\n": -1, "a": 0, "b": 1, "c": 2})
    assert encode([["a", "b", "c"]], invalid_label=1) == ([[0, 2, 3]], {"\n": 1, "a": 0, "b": 2, "c": 3})
    assert encode([["a", "x"]], vocab={"a": 7}) == ([[7, -1]], {"a": 7})


@pytest.mark.parametrize(("layout", "shape"), [("NT", (1, 4)), ("TN", (4, 1))])
def test_sentences_are_padded_to_the_smallest_bucket(module: Module, layout: str, shape: tuple[int, int]) -> None:
    batch = module("mms.utils.mxnet.nlp").pad_sentence([5, 6, 7], [2, 4, 8], layout=layout, data_name="words")
    assert batch.data[0].asnumpy().tolist() == [[5, 6, 7, -1]]
    assert (batch.bucket_key, batch.pad) == (4, 0)
    (described,) = batch.provide_data
    assert (described.name, described.shape, described.layout) == ("words", shape, layout)


def test_metrics_with_an_invalid_unit_are_refused(module: Module) -> None:
    store = module("mms.metrics.metrics_store").MetricsStore({0: "r0", 1: "r1"}, "m")
    with pytest.raises(ValueError, match=r"^the unit for a timed metric should be one of \['ms', 's'\]$"):
        store.add_time("t", 1, unit="h")
    with pytest.raises(ValueError, match=r"^The unit for size based metric is one of \['MB','kB', 'GB', 'B'\]$"):
        store.add_size("t", 1, unit="TB")


def test_metrics_of_one_request_and_of_all_requests_are_separate(module: Module) -> None:
    store = module("mms.metrics.metrics_store").MetricsStore({0: "r0", 1: "r1"}, "m")
    store.add_counter("c", 1)
    store.add_counter("c", 2)
    store.add_counter("c", 5, idx=1)
    store.add_size("s", 1, unit="kB")
    store.add_size("s", 2, unit="kB")
    store.add_percent("p", 50)
    store.add_error("e", "boom")
    store.add_metric("g", 1)
    seen = [
        (item.name, item.unit, item.value, item.request_id, [str(d) for d in item.dimensions]) for item in store.store
    ]
    model = ["ModelName:m", "Level:Model"]
    assert seen == [
        ("c", "Count", 3, "r0,r1", model),
        ("c", "Count", 5, "r1", model),
        ("s", "Kilobytes", 2, "r0,r1", model),
        ("p", "Percent", 50, "r0,r1", model),
        ("e", "", "boom", None, ["Level:Error"]),
        ("g", "unit", 1, "r0,r1", model),
    ]


def test_the_machine_is_measured(module: Module) -> None:
    metrics = module("mms.metrics.system_metrics")
    metrics.system_metrics.clear()
    metrics.collect_all(metrics)
    values = {f"{metric.name}.{metric.unit}": metric.value for metric in metrics.system_metrics}
    assert set(values) == {
        *("CPUUtilization.Percent", "MemoryUsed.Megabytes", "MemoryAvailable.Megabytes", "MemoryUtilization.Percent"),
        *("DiskUsage.Gigabytes", "DiskAvailable.Gigabytes", "DiskUtilization.Percent"),
    }
    assert all(0 <= value <= 100 for name, value in values.items() if name.endswith("Percent"))
    metrics.cpu_utilization()
    assert 0 <= metrics.system_metrics[-1].value <= 100


def test_each_system_metric_function_can_be_called_and_gives_json(module: Module) -> None:
    """As MMS's example metrics_cloudwatch does."""
    metrics = module("mms.metrics.system_metrics")
    metrics.system_metrics.clear()
    for name in dir(metrics):
        if isinstance(value := getattr(metrics, name), FunctionType) and name != "collect_all":
            value()
    text = json.dumps(metrics.system_metrics, cls=module("mms.metrics.metric_encoder").MetricEncoder)
    written = {load["MetricName"]: (load["Unit"], load["Dimensions"]) for load in json.loads(text)}
    host = [{"Name": "Level", "Value": "Host"}]
    assert written["MemoryUsed"] == ("Megabytes", host)
    assert len(written) == 7


def message(*parts: bytes | int) -> bytes:
    """Return numbers as MMS's front end writes them, and bytes with their length before them."""
    lengths = (part.to_bytes(4, "big", signed=True) if isinstance(part, int) else None for part in parts)
    return b"".join(
        number if number is not None else len(part).to_bytes(4, "big") + part  # type: ignore[arg-type,operator]
        for number, part in zip(lengths, parts, strict=True)
    )


def received(module: Module, data: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return module("mms.protocol.otf_message_handler").retrieve_msg(ours)


@pytest.mark.parametrize(("gpu", "fields"), [(-1, {}), (2, {"gpu": 2})])
def test_the_message_that_loads_a_model_is_read(module: Module, gpu: int, fields: dict[str, int]) -> None:
    sent = b"L" + message(b"net", b"/models/net", 8, b"service:handle", gpu, b"io")
    expected = {"modelName": b"net", "modelPath": b"/models/net", "batchSize": 8, "handler": b"service:handle"}
    assert received(module, sent) == (b"L", expected | fields | {"ioFileDescriptor": b"io"})


def test_a_batch_of_the_mms_front_end_is_read_computed_and_answered(module: Module) -> None:
    request = (b"r0", b"Accept", b"*/*", -1, b"a", b"application/json", b'{"b": 1}', b"c", b"text/plain", "é".encode())
    _, batch = received(module, b"I" + message(*request, b"d", b"", b"\xff", -1, b"r1", -1, -1, -1))
    received_values: list[Any] = []

    def handle(data: Any, context: Any) -> list[Any]:
        received_values.extend([data, context.get_request_header(0, "Accept"), context.get_request_header(0, "a")])
        context.set_response_content_type(1, "text/plain")
        context.set_response_status(507, "Full", 1)
        context.set_response_header(1, "x", "y")
        return ["è", [1]]

    service = module("mms.service").Service("net", "/models/net", None, handle, None, 2)
    answer = service.predict(batch)
    assert received_values == [
        [{"a": {"b": 1}, "c": "é", "d": b"\xff"}, {}],
        "*/*",
        {"content-type": "application/json"},
    ]
    first = (b"r0", b"", 200, b"", 0, "è".encode())
    second = (b"r1", b"text/plain", 507, b"Full", 2, b"content-type", b"text/plain", b"x", b"y", b"[\n  1\n]")
    assert answer == message(200, b"Prediction success", *first, *second, -1)


@pytest.mark.parametrize(
    ("result", "code", "reason"),
    [
        (["a"], 503, b"number of batch response mismatched"),
        ("ab", 503, b"Invalid model predict output"),
        ([{1}, 2], 503, b"Unsupported model output data type."),
        (MemoryError(), 507, b"Out of resources"),
        (KeyError("a"), 503, b"Prediction failed"),
        (None, 599, b"Some Prediction Error"),
    ],
)
def test_a_failed_batch_is_answered_with_the_message_of_mms(
    module: Module, result: object, code: int, reason: bytes
) -> None:
    def handle(data: Any, context: Any) -> Any:
        if result is None:
            raise module("mms.service").PredictionException("Some Prediction Error", 599)
        if isinstance(result, Exception):
            raise result
        return result

    service = module("mms.service").Service("net", "/models/net", None, handle, None, 2)
    batch = [{"requestId": name, "parameters": []} for name in (b"r0", b"r1")]
    failed = [(name, b"", code, b"", 0, b"error") for name in (b"r0", b"r1")]
    assert service.predict(batch) == message(code, reason, *failed[0], *failed[1], -1)


def test_an_invalid_or_truncated_message_is_refused(module: Module) -> None:
    with pytest.raises(ValueError, match="Invalid command: b'U'"):
        received(module, b"U")
    for sent in (b"", b"L" + message(b"net")[:-1], b"I" + message(b"r0")):
        with pytest.raises(ValueError, match="Frontend disconnected"):
            received(module, sent)
