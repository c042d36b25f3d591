"""Occlusion, with a network whose answer is known by a formula."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from app.backend.batching import BatchQueue
from app.errors import BadParameter, ClientClosedRequest
from app.serving.explain import CELLS, Explanation, box_of, explain, face_tensor, seen_region, with_margin
from app.serving.model import ALONE, Model
from app.serving.rendering import heat_map, tensor_image
from app.types import Box, FloatArray, Postprocess, Preprocess, TensorSpec

SIDE = 50  # five pixels a cell


class Corner:
    """A network that uses only the upper left quarter: its one probability is the quarter's mean."""

    def __init__(self) -> None:
        self.rows = 0

    def predict(self, batch: FloatArray) -> FloatArray:
        self.rows += len(batch)
        return batch[:, 0, : SIDE // 2, : SIDE // 2].mean(axis=(1, 2))[:, np.newaxis]

    def close(self) -> None:
        pass


def model(engine: Corner, preprocess: Preprocess | None = None) -> Model:
    return Model(
        name="corner",
        version="1.0",
        kind="test",
        input=TensorSpec("data", (0, 1, SIDE, SIDE)),
        preprocess=preprocess or Preprocess(color="grey"),
        postprocess=Postprocess(),
        labels=("dark", "light"),
        engine=engine,
        queue=BatchQueue("corner", lambda batches: [engine.predict(batch) for batch in batches], ALONE),
    )


def lit_corner() -> FloatArray:
    tensor = np.zeros((1, 1, SIDE, SIDE), np.float32)
    tensor[:, :, : SIDE // 2, : SIDE // 2] = 1
    return tensor


WHOLE = Box(0, 0, SIDE, SIDE)


def test_the_probability_drops_only_for_covered_cells() -> None:
    found = explain(model(Corner()), lit_corner(), WHOLE)
    assert (found.label, found.probability) == ("light", 1.0)
    # a cell in the middle of the quarter hides 15 x 15 of its 25 x 25 pixels, which become 0.25, the picture's mean
    assert found.drops[2, 2] == pytest.approx(15 * 15 * 0.75 / (25 * 25), abs=1e-6)
    # the first cell has no neighbours above and to the left
    assert found.drops[0, 0] == pytest.approx(10 * 10 * 0.75 / (25 * 25), abs=1e-6)
    assert np.abs(found.drops[6:, :]).max() < 1e-6
    assert np.abs(found.drops[:, 6:]).max() < 1e-6


def test_the_requested_class_is_explained() -> None:
    found = explain(model(Corner()), lit_corner(), WHOLE, "dark")
    assert found.probability == 0
    assert found.drops[2, 2] < 0
    with pytest.raises(BadParameter, match="dark, light"):
        explain(model(Corner()), lit_corner(), WHOLE, "green")


def test_the_number_of_predictions_is_bounded() -> None:
    engine = Corner()
    explain(model(engine), lit_corner(), WHOLE)
    assert engine.rows == CELLS * CELLS + 1 <= 201


def test_a_disconnected_client_stops_the_explanation() -> None:
    engine = Corner()
    with pytest.raises(ClientClosedRequest):
        explain(model(engine), lit_corner(), WHOLE, is_disconnected=lambda: engine.rows > 1)
    assert engine.rows == 1 + CELLS


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # the shorter side, 341, becomes 256: the 224 of the middle were 298 pixels
        (Box(0, 0, 512, 341), Box(107, 21, 298, 298)),
        (Box(10, 20, 256, 256), Box(26, 36, 224, 224)),
    ],
)
def test_the_explained_region_of_a_cropping_network_is_the_centre(size: Box, expected: Box) -> None:
    preprocess = Preprocess(resize="crop", shorter_side=256)
    assert seen_region(preprocess, (0, 3, 224, 224), size) == expected
    assert seen_region(Preprocess(resize="stretch"), (0, 3, 224, 224), size) == size


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        Preprocess(color="bgr", mean=(103.9, 116.8, 123.7)),
        Preprocess(color="grey", scale=1 / 255),
        Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="NHWC"),
    ],
)
def test_the_input_image_of_a_picture_with_the_size_of_the_network_is_unchanged(preprocess: Preprocess) -> None:
    channels = 1 if preprocess.color == "grey" else 3
    shape = (0, channels, SIDE, SIDE) if preprocess.layout == "NCHW" else (0, SIDE, SIDE, channels)
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    if channels == 1:
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    image = Image.fromarray(pixels)
    one = Model(
        "any",
        "1.0",
        "test",
        TensorSpec("data", shape),
        preprocess,
        Postprocess(),
        ("a",),
        Corner(),
        None,  # type: ignore[arg-type]
    )
    seen = tensor_image(face_tensor(one, image, None), preprocess).convert("RGB")
    assert np.array_equal(np.asarray(seen), pixels)


def test_a_face_is_cropped_before_prediction() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[20:70, 30:80] = 200
    one = model(Corner(), Preprocess(color="grey"))
    assert np.array_equal(face_tensor(one, Image.fromarray(pixels), Box(30, 20, 50, 50)), np.full((1, 1, 50, 50), 200))


def test_faces_are_numbered_from_one() -> None:
    answer = {"faces": [{"box": {"x": 1, "y": 2, "width": 3, "height": 4}}]}
    assert box_of(answer, 1) == Box(1, 2, 3, 4)
    assert box_of({"faces": None}, 1) is None
    assert box_of({"faces": []}, 1) is None
    for face in (0, 2):
        with pytest.raises(BadParameter, match="from 1 to 1"):
            box_of(answer, face)


def test_the_context_of_a_face_stays_within_the_picture() -> None:
    assert with_margin(Box(40, 40, 10, 20), Box(0, 0, 100, 100)) == Box(30, 20, 30, 60)
    assert with_margin(Box(0, 85, 10, 10), Box(0, 0, 100, 100)) == Box(0, 75, 20, 25)


def test_the_heat_map_colours_the_cells_that_matter() -> None:
    drops = np.zeros((CELLS, CELLS), np.float32)
    drops[0, 0] = 0.9
    grey = Image.new("RGB", (200, 100), (128, 128, 128))
    drawn = np.asarray(heat_map(grey, Box(100, 0, 400, 200), Explanation("a", 0.9, drops, Box(300, 0, 200, 200))))
    # the region is the right half of the frame; its first cell is there red, the rest stays grey
    red, green = drawn[2, 102, 0].astype(int), drawn[2, 102, 1].astype(int)
    assert red - green > 80
    assert np.abs(drawn[:, :100].astype(int) - 128).max() <= 1
    assert np.abs(drawn[60:, :].astype(int) - 128).max() <= 1


def test_nothing_is_coloured_if_no_cell_matters() -> None:
    drops = np.full((CELLS, CELLS), 1e-7, np.float32)
    drawn = np.asarray(heat_map(Image.new("RGB", (50, 50), (90, 90, 90)), WHOLE, Explanation("a", 1, drops, WHOLE)))
    assert np.abs(drawn.astype(int) - 90).max() <= 1


def test_a_heat_map_is_a_png(client) -> None:  # type: ignore[no-untyped-def]
    from tests.pictures import astronaut, encode

    answer = client.post("/explain/smile", data=encode(astronaut()), headers={"Accept": "image/png"})
    assert answer.mimetype == "image/png"
    # as much as the face again on every side, 3 x 85 pixels, but for 5 beyond the top edge; give or take what a
    # processor's last bits move
    assert Image.open(io.BytesIO(answer.data)).size == pytest.approx((255, 250), abs=9)
