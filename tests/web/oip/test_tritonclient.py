"""Triton's own client against a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from app.engines.conversion import load_reference
from app.formats.folder import open_model_folder
from app.settings import ROOT
from tests.conftest import Server
from tests.pictures import astronaut, encode, face_crop, plain, png_bomb
from tests.web.oip.asking import dogcat_tensor, smile_tensor

PICTURES = [encode(astronaut()), encode(plain(), "PNG"), encode(face_crop(), "PNG")]


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def tensor(name: str, values: NDArray[Any], datatype: str, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def pictures(*files: bytes) -> Any:
    return tensor("image", np.array(files, dtype=object), "BYTES")


def curl(server: Server, path: str, data: bytes) -> Any:
    sending = ["-H", "Content-Type: image/png", "--data-binary", "@-"]  # for MMS, curl's own type is a form
    command = ["curl", "-sS", "--max-time", "60", *sending, server.url(path)]
    return json.loads(subprocess.run(command, input=data, capture_output=True, check=True).stdout)


def pairs(answer: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(item["class"], item["probability"]) for item in answer]


def ranking(found: Any, row: int) -> list[tuple[str, float]]:
    labels, scores = found.as_numpy("labels")[row], found.as_numpy("scores")[row]
    return [(label.decode(), float(score)) for label, score in zip(labels, scores, strict=True)]


def test_the_client_finds_the_server_and_its_models(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("smile") and client.is_model_ready("smile", "1.0")
    assert not client.is_model_ready("smile", "2") and not client.is_model_ready("absent")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    states = {item["name"]: item["state"] for item in client.get_model_repository_index()}
    assert states == {"dogcat": "READY", "imagenet": "READY", "smile": "READY"}


def test_the_metadata_have_the_names_and_shapes_of_the_signature(client: Any) -> None:
    metadata = client.get_model_metadata("dogcat", "1.0")
    assert metadata["versions"] == ["1.0"]
    assert metadata["inputs"] == [
        {"name": "conv2d_1_input", "datatype": "FP32", "shape": [-1, 3, 150, 150]},
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
    ]
    assert metadata["outputs"] == [
        {"name": "sigmoid", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "labels", "datatype": "BYTES", "shape": [-1, 2]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
    ]
    assert client.get_model_metadata("imagenet")["outputs"][1:] == [
        {"name": "labels", "datatype": "BYTES", "shape": [-1, 5]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 5]},
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_a_tensor_request_returns_the_outputs_of_the_network(client: Any, server: Server, binary: bool) -> None:
    image = astronaut()
    values = dogcat_tensor(image)
    requested_outputs = [triton.InferRequestedOutput("sigmoid", binary_data=binary)]
    found = client.infer(
        "dogcat", [tensor("conv2d_1_input", values, "FP32", binary)], request_id="7", outputs=requested_outputs
    )
    raw = found.as_numpy("sigmoid")
    assert (raw.shape, raw.dtype, found.get_response()["id"]) == ((1, 1), np.float32, "7")
    # one sigmoid p stands for 1 - p of the first class and p of the second
    answer = curl(server, "/predict/dogcat", encode(image, "PNG"))["predictions"]
    probabilities = {item["class"]: item["probability"] for item in answer}
    assert float(raw[0, 0]) == probabilities["dog"]
    assert 1 - float(raw[0, 0]) == pytest.approx(probabilities["cat"], abs=1e-7)


def test_the_outputs_equal_those_of_mxnet(client: Any) -> None:
    values = np.concatenate([smile_tensor(face_crop()), smile_tensor(plain())])
    found = client.infer("smile", [tensor("/conv2d_1_input1", values, "FP32")]).as_numpy("softmax")
    engine = load_reference(open_model_folder(ROOT / "models" / "smile"), "mxnet").engine
    assert np.abs(found - engine.predict(values)).max() < 1e-4
    assert found.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_every_protocol_gives_the_same_answer_to_a_picture(client: Any, server: Server) -> None:
    for model in ("smile", "dogcat", "imagenet"):
        together = client.infer(model, [pictures(*PICTURES)])
        for row, data in enumerate(PICTURES):
            own = pairs(curl(server, f"/predict/{model}", data)["predictions"])
            mms = pairs(curl(server, f"/predictions/{model}", data))
            sagemaker = pairs(curl(server, f"/models/{model}/invoke", data))
            alone = client.infer(model, [pictures(data)])
            assert own == mms == sagemaker == ranking(alone, 0)
            # rows of one batch are computed at once, by another compilation: it may differ in the last bit
            labels, scores = zip(*ranking(together, row), strict=True)
            assert labels == tuple(label for label, _ in own)
            assert scores == pytest.approx([score for _, score in own], abs=1e-6)


def test_classes_are_formatted_as_by_triton(client: Any, models_dir: Path) -> None:
    requested_outputs = [
        triton.InferRequestedOutput("softmax", class_count=2),
        triton.InferRequestedOutput("labels"),
    ]
    found = client.infer("imagenet", [pictures(*PICTURES[:2])], outputs=requested_outputs)
    classes, labels = found.as_numpy("softmax"), found.as_numpy("labels")
    synset = (models_dir / "imagenet" / "synset.txt").read_text().splitlines()
    assert classes.shape == (2, 2)
    raw = client.infer("imagenet", [pictures(*PICTURES[:2])], outputs=[triton.InferRequestedOutput("softmax")])
    for row, values in enumerate(raw.as_numpy("softmax")):
        for place, text in enumerate(classes[row]):
            value, index, label = text.decode().split(":", 2)
            assert np.float32(value) == np.sort(values)[-1 - place] == values[int(index)]
            assert label == labels[row][place].decode() == synset[int(index)]


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
def test_compressed_requests_give_the_same_outputs(
    client: Any, sent: str | None, response_compression: str | None
) -> None:
    values = tensor("data", np.zeros((1, 3, 224, 224), np.float32), "FP32")
    plainly = client.infer("imagenet", [values]).as_numpy("softmax")
    packed = client.infer(
        "imagenet", [values], request_compression_algorithm=sent, response_compression_algorithm=response_compression
    )
    assert packed.as_numpy("softmax").tobytes() == plainly.tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float64"])
def test_other_types_are_accepted_if_no_precision_is_lost(client: Any, dtype: str) -> None:
    names = {"uint8": "UINT8", "int16": "INT16", "int64": "INT64", "float16": "FP16", "float64": "FP64"}
    values = np.arange(64 * 64).reshape(1, 1, 64, 64) % 2
    exact = client.infer("smile", [tensor("/conv2d_1_input1", values.astype(np.float32), "FP32")])
    other = client.infer("smile", [tensor("/conv2d_1_input1", values.astype(dtype), names[dtype])])
    assert other.as_numpy("softmax").tobytes() == exact.as_numpy("softmax").tobytes()


def test_requests_may_be_sent_concurrently(client: Any) -> None:
    alone = client.infer("dogcat", [pictures(PICTURES[1])]).as_numpy("scores")
    waiting = [client.async_infer("dogcat", [pictures(PICTURES[1])]) for _ in range(8)]
    for item in waiting:
        assert item.get_result().as_numpy("scores") == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "data", "status", "words"),
    [
        ("absent", PICTURES[1], "404", "There are: dogcat, imagenet, smile"),
        ("smile", b"no picture", "415", "cannot be read as a picture"),
        ("smile", png_bomb(), "413", "40000 x 40000"),
        ("smile", b"", "400", "empty"),
    ],
)
def test_errors_are_raised_as_exceptions_of_the_client(
    client: Any, model: str, data: bytes, status: str, words: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [pictures(data)])
    assert caught.value.status() == status
    assert words in caught.value.message()


def test_unsupported_calls_are_raised_as_exceptions_of_the_client(client: Any) -> None:
    for call in (
        lambda: client.load_model("smile"),
        lambda: client.get_model_config("smile"),
        lambda: client.get_inference_statistics("smile"),
        lambda: client.get_system_shared_memory_status(),
    ):
        with pytest.raises(InferenceServerException, match="There is nothing at /v2/"):
            call()
