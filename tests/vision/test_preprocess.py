"""Preprocessing: expected numbers by hand, by Pillow or by cv2.resize itself."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from app.errors import ModelFormatError
from app.settings import PictureLimits
from app.types import FloatArray, Interpolation, Preprocess
from app.vision.decode import decode
from app.vision.faces import CANVASES
from app.vision.preprocess import draft_side, to_tensor

from .pictures import noise

CV2 = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
ONE_COLOUR = Image.new("RGB", (5, 4), (10, 20, 30))


def test_the_default_equals_the_preprocessing_of_mms_for_an_old_archive() -> None:
    picture = noise(61, 47)
    cv2.ipp.setUseIPP(False)  # MXNet's OpenCV has no such routines
    expected = cv2.resize(np.asarray(picture), (32, 24), interpolation=2).transpose(2, 0, 1)[np.newaxis]
    tensor = to_tensor(picture, Preprocess(), (0, 3, 24, 32))
    assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
    assert np.array_equal(tensor, expected)


@pytest.mark.parametrize("interpolation", CV2)
@pytest.mark.parametrize("size", [(17, 13), (90, 110)])
def test_pixels_without_antialias_equal_those_of_opencv(interpolation: Interpolation, size: tuple[int, int]) -> None:
    picture = noise(61, 47)
    cv2.ipp.setUseIPP(False)  # MXNet's OpenCV has no such routines
    expected = cv2.resize(np.asarray(picture), size, interpolation=CV2[interpolation])
    given = Preprocess(interpolation=interpolation, layout="NHWC")
    assert np.array_equal(to_tensor(picture, given, (0, size[1], size[0], 3))[0], expected)


@pytest.mark.parametrize("interpolation", PILLOW)
def test_pixels_with_antialias_equal_those_of_pillow(interpolation: Interpolation) -> None:
    picture = noise(61, 47)
    expected = np.asarray(picture.resize((17, 13), PILLOW[interpolation]))
    given = Preprocess(interpolation=interpolation, antialias=True, layout="NHWC")
    assert np.array_equal(to_tensor(picture, given, (0, 13, 17, 3))[0], expected)


def test_only_antialias_averages_a_fine_chequerboard() -> None:
    chequer = Image.fromarray(np.where(np.indices((64, 64)).sum(axis=0) % 2, 255, 0).astype(np.uint8)).convert("RGB")
    smooth = to_tensor(chequer, Preprocess(antialias=True, interpolation="area"), (1, 3, 8, 8))
    rough = to_tensor(chequer, Preprocess(interpolation="nearest"), (1, 3, 8, 8))
    assert np.abs(smooth - 127.5).max() <= 1
    assert set(np.unique(rough)) <= {0.0, 255.0}


def test_channels_are_in_the_requested_order() -> None:
    rgb = to_tensor(ONE_COLOUR, Preprocess(), (1, 3, 2, 2))
    bgr = to_tensor(ONE_COLOUR, Preprocess(color="bgr"), (1, 3, 2, 2))
    assert rgb[0, :, 0, 0].tolist() == [10, 20, 30]
    assert bgr[0, :, 0, 0].tolist() == [30, 20, 10]


def test_grey_is_the_luma_of_bt_601() -> None:
    # 0.299 * 100 + 0.587 * 200 + 0.114 * 50 = 153
    tensor = to_tensor(Image.new("RGB", (4, 4), (100, 200, 50)), Preprocess(color="grey"), (0, 1, 2, 2))
    assert tensor.shape == (1, 1, 2, 2)
    assert tensor.tolist() == [[[[153, 153], [153, 153]]]]


def test_both_layouts_have_the_same_values_and_are_contiguous() -> None:
    picture = noise()
    first = to_tensor(picture, Preprocess(layout="NCHW"), (0, 3, 6, 9))
    last = to_tensor(picture, Preprocess(layout="NHWC"), (0, 6, 9, 3))
    assert first.shape == (1, 3, 6, 9) and last.shape == (1, 6, 9, 3)
    assert first.flags.c_contiguous and last.flags.c_contiguous
    assert np.array_equal(first.transpose(0, 2, 3, 1), last)


def test_scale_is_applied_before_mean_and_std() -> None:
    # ((10, 20, 30) * 0.1 - (0, 1, 2)) / (1, 2, 4) = (1, 0.5, 0.25)
    given = Preprocess(scale=0.1, mean=(0.0, 1.0, 2.0), std=(1.0, 2.0, 4.0))
    assert np.allclose(to_tensor(ONE_COLOUR, given, (1, 3, 1, 1)).ravel(), [1, 0.5, 0.25])


def test_bgr_means_are_in_the_order_of_the_tensor() -> None:
    given = Preprocess(color="bgr", mean=(30.0, 20.0, 10.0))
    assert not to_tensor(ONE_COLOUR, given, (1, 3, 4, 5)).any()


def test_a_single_mean_and_std_apply_to_all_channels() -> None:
    given = Preprocess(mean=(127.0,), std=(128.0,))
    assert np.allclose(to_tensor(ONE_COLOUR, given, (1, 3, 1, 1)).ravel(), np.array([-117, -107, -97]) / 128)


def _stripes(width: int, height: int) -> Image.Image:
    """Return a picture whose red is its column and whose green is its row."""
    rows, columns = np.indices((height, width))
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("antialias", [False, True])
def test_crop_takes_the_centre(antialias: bool) -> None:
    # 200 x 100 covers 100 x 100 as it is; columns 50-149 are the middle.
    tensor = to_tensor(_stripes(200, 100), Preprocess(resize="crop", antialias=antialias), (1, 3, 100, 100))
    assert tensor[0, 0, 0].tolist() == list(range(50, 150))
    assert tensor[0, 1, :, 0].tolist() == list(range(100))


def test_crop_by_the_shorter_side_resizes_and_takes_the_centre() -> None:
    picture = noise(400, 300)
    whole = np.asarray(picture.resize((341, 256), Image.Resampling.BICUBIC))  # 400 * 256 / 300 = 341.3
    expected = whole[16 : 16 + 224, 58 : 58 + 224]
    given = Preprocess(resize="crop", shorter_side=256, antialias=True, layout="NHWC")
    _assert_nearly_equal(to_tensor(picture, given, (0, 224, 224, 3))[0], expected)


@pytest.mark.parametrize("size", [(2003, 1511), (1511, 2003), (3001, 600)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "area"])
def test_crop_of_a_large_picture_equals_the_centre_of_the_whole_one_resized(
    size: tuple[int, int], interpolation: Interpolation
) -> None:
    picture = noise(*size)
    scale = 64 / min(size)
    width, height = round(size[0] * scale), round(size[1] * scale)
    whole = np.asarray(picture.resize((width, height), PILLOW[interpolation], reducing_gap=3.0))
    left, top = (width - 56) // 2, (height - 56) // 2
    given = Preprocess(resize="crop", shorter_side=64, interpolation=interpolation, antialias=True, layout="NHWC")
    tensor = to_tensor(picture, given, (0, 56, 56, 3))[0]
    _assert_nearly_equal(tensor, whole[top : top + 56, left : left + 56])


def _assert_nearly_equal(actual: FloatArray, expected: NDArray[np.uint8]) -> None:
    # Pillow keeps a box in 32-bit floats, which moves few pixels to the next level, and in noise to the one after it.
    difference = np.abs(actual - expected)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.002


def test_crop_covers_an_input_that_is_wider_than_the_picture() -> None:
    tensor = to_tensor(_stripes(100, 200), Preprocess(resize="crop", interpolation="nearest"), (1, 3, 50, 100))
    assert tensor[0, 0, 0].tolist() == list(range(100))
    assert tensor[0, 1, :, 0].tolist() == list(range(75, 125))


def test_stretch_uses_the_whole_picture_and_ignores_its_aspect_ratio() -> None:
    tensor = to_tensor(_stripes(200, 100), Preprocess(interpolation="nearest"), (1, 3, 50, 50))
    assert tensor[0, 0, 0].tolist() == list(range(0, 200, 4))


@pytest.mark.parametrize("size", [(1, 1), (1, 65_535), (65_535, 1), (3, 5000)])
@pytest.mark.parametrize("given", [Preprocess(), Preprocess(resize="crop", shorter_side=256)])
@pytest.mark.parametrize("antialias", [False, True])
def test_pictures_of_any_aspect_ratio_fit_without_enlargement(
    size: tuple[int, int], given: Preprocess, antialias: bool
) -> None:
    picture = Image.new("RGB", size, (1, 2, 3))
    tensor = to_tensor(picture, replace(given, antialias=antialias), (0, 3, 224, 224))
    assert tensor.shape == (1, 3, 224, 224)
    assert tensor[0, :, 100, 100].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [(0, 3, 0, 32), (0, 3, 32, 0), (3, 32, 32), (0, 3, 32, 32, 1), (0, 784), ()])
def test_a_shape_that_is_not_that_of_a_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelFormatError):
        to_tensor(ONE_COLOUR, Preprocess(), shape)


@pytest.mark.parametrize("given", [Preprocess(color="grey"), Preprocess(layout="NHWC")])
def test_a_number_of_channels_that_contradicts_the_colour_is_refused(given: Preprocess) -> None:
    with pytest.raises(ModelFormatError, match="channels"):
        to_tensor(ONE_COLOUR, given, (0, 3, 32, 32))


@pytest.mark.parametrize(
    "given", [Preprocess(mean=(1.0, 2.0)), Preprocess(std=(1.0, 2.0)), Preprocess(mean=()), Preprocess(std=(0.0,))]
)
def test_unusable_means_and_stds_are_refused(given: Preprocess) -> None:
    with pytest.raises(ModelFormatError):
        to_tensor(ONE_COLOUR, given, (0, 3, 32, 32))


def test_a_smooth_picture_gives_nearly_the_same_tensor_from_a_scaled_jpeg() -> None:
    ramp = np.linspace(0, 255, 1600)
    pixels = np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (1600, 1)), np.tile(ramp, (1600, 1)).T], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=95)
    preprocess = Preprocess(resize="crop", shorter_side=128, antialias=True)
    shape = (0, 3, 112, 112)

    enough = draft_side(preprocess, shape)

    assert enough == 256
    small, whole = (decode(buffer.getvalue(), PictureLimits(), side).image for side in (enough, 0))
    assert (small.size, whole.size) == ((400, 400), (1600, 1600))
    assert np.abs(to_tensor(small, preprocess, shape) - to_tensor(whole, preprocess, shape)).max() <= 3


@pytest.mark.parametrize("faces", [False, True])
def test_pictures_without_antialiasing_are_decoded_at_full_size(faces: bool) -> None:
    assert draft_side(Preprocess(antialias=False, faces=faces), (0, 3, 112, 112)) == 0
    assert draft_side(Preprocess(antialias=True, interpolation="nearest", faces=faces), (0, 3, 112, 112)) == 0


def test_a_picture_searched_for_faces_keeps_twice_the_size_for_the_detector() -> None:
    seen = max(max(canvas) for canvas in CANVASES)
    assert draft_side(Preprocess(antialias=True, faces=True), (0, 3, 112, 112)) == 2 * seen


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_a_large_photograph_is_resized_as_pillow_resizes_it_without_reducing_first(
    interpolation: Interpolation,
) -> None:
    photograph = Image.fromarray(skimage.data.coffee()).resize((3000, 2000), Image.Resampling.BICUBIC)
    preprocess = Preprocess(antialias=True, interpolation=interpolation, layout="NHWC")
    tensor = to_tensor(photograph, preprocess, (0, 128, 128, 3))[0]
    exact = np.asarray(photograph.resize((128, 128), getattr(Image.Resampling, interpolation.upper())), np.float32)
    differences = np.abs(tensor - exact)
    assert np.quantile(differences, 0.99) <= 1
    assert differences.mean() <= 0.25


def test_opencv_resizes_like_mxnet_in_every_thread() -> None:
    from app.engines.mxnet.compat import prepare

    prepare()
    import mxnet as mx

    pixels = noise(300, 400)
    expected = mx.image.imresize(mx.nd.array(np.asarray(pixels), dtype="uint8"), 227, 227, 2).asnumpy()
    preprocess = Preprocess(interpolation="bicubic", layout="NHWC")
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: to_tensor(pixels, preprocess, (0, 227, 227, 3)), range(4)):
            assert (found[0] == expected).all()
