"""Networks, compared with Gluon's own forward pass, and their sizes, with published ones.

The heavy ones are in ``all_architectures.py``, which ``make test`` leaves out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import ModelFormatError
from app.formats.mxnet_params import read_params
from app.zoo.build import build_folder, pulled_from
from app.zoo.catalogue import load_catalogue
from app.zoo.gluon import export
from tests.zoo.conftest import CLASSES, SHAPE, SMALL
from tests.zoo.networks import direct, logits, random_batch, random_network, saved, served
from tests.zoo.shelf import zipped_names

SHIPPED = load_catalogue(Path("nowhere"))
PUBLISHED = {
    # Simonyan and Zisserman give 138 and 144 million; to the last one, this is what their layers come to
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    # Gluon's documentation, which counts the means and variances of batch normalisation too
    "squeezenet1.1": 1_235_496,
    "resnet18_v1": 11_699_112,
    "mobilenet1.0": 4_253_864,
    # 25.58 million are learned in a ResNet-50 with a deep stem, and 53,248 are means and variances
    "resnet50_v1d": 25_576_264 + 53_248,
}


def count(folder: Path) -> int:
    """Return the number of values in a model's parameters."""
    return sum(array.size for path in folder.glob("*.params") for array in read_params(path).values())


@pytest.mark.parametrize("name", ["squeezenet1.1", "resnet18_v1"])
def test_every_network_of_the_catalogue_answers_as_gluon_does(name: str, tmp_path: Path) -> None:
    entry = SHIPPED.get(name)
    net = random_network(entry.network, (3, 224, 224), 1000)
    path = tmp_path / "weights.params"
    saved(net, path)
    unchecked = type(entry)(**{**vars(entry), "checksum": ""})
    build_folder(unchecked, [path], tmp_path / "model", "model", "here")
    batch = random_batch((3, 224, 224))
    expected = direct(net, batch)
    assert expected.max() > 5 / 1000  # it prefers a class
    np.testing.assert_allclose(served(tmp_path / "model", batch), expected, rtol=1e-3, atol=1e-6)
    assert count(tmp_path / "model") == PUBLISHED[name] == entry.parameters
    assert pulled_from(tmp_path / "model") == name


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "mobilenet1.0", "resnet50_v1d"])
def test_the_size_of_a_network_is_the_published_one(name: str) -> None:
    from app.zoo.gluon import trace

    entry = SHIPPED.get(name)
    _net, symbol = trace(entry.network, 1000)
    arguments, _outputs, states = symbol.infer_shape(data=(1, *entry.shape))
    sizes = [int(np.prod(shape)) for shape in arguments[1:] + states]
    assert symbol.list_arguments()[0] == "data"
    assert sum(sizes) == PUBLISHED[name] == entry.parameters


def test_the_graph_has_the_same_names_in_every_run(small_params: bytes, tmp_path: Path) -> None:
    (tmp_path / "small.params").write_bytes(small_params)
    for run in "ab":
        export(tmp_path / "small.params", SMALL, CLASSES, SHAPE, tmp_path / run)
    assert (tmp_path / "a-symbol.json").read_bytes() == (tmp_path / "b-symbol.json").read_bytes()
    assert (tmp_path / "a-0000.params").read_bytes() == (tmp_path / "b-0000.params").read_bytes()


def test_parameters_named_after_their_layers_are_accepted_too(tmp_path: Path) -> None:
    """``save_params`` named them so before MXNet 1.2, without the network's own name; and ``export`` does."""
    import mxnet as mx

    net = random_network("mobilenet0.25", (3, 224, 224), 10)
    batch = random_batch((3, 224, 224), 1)
    expected = direct(net, batch)
    files = {"layers": tmp_path / "layers.params", "whole": tmp_path / "whole.params"}
    net.collect_params().save(str(files["layers"]), strip_prefix=net.prefix)
    mx.nd.save(str(files["whole"]), {f"arg:{name}": p.data() for name, p in net.collect_params().items()})
    for name, path in files.items():
        export(path, "mobilenet0.25", 10, (3, 224, 224), tmp_path / name)
        assert np.abs(computed(tmp_path / name, batch, (3, 224, 224)) - expected).max() < 1e-5, name


def computed(prefix: Path, batch: Any, shape: tuple[int, int, int]) -> Any:
    from app.engines.mxnet.engine import MxnetEngine

    symbol, params = prefix.with_name(f"{prefix.name}-symbol.json"), prefix.with_name(f"{prefix.name}-0000.params")
    return MxnetEngine.load(symbol, params, "data", (0, *shape)).predict(batch)


@pytest.mark.parametrize(
    ("network", "classes", "shape", "message"),
    [
        ("cifar_resnet56_v1", CLASSES, SHAPE, "it lacks features.2.3.body.0.weight"),
        ("squeezenet1.1", CLASSES, (3, 64, 64), "it lacks .* it holds"),
        (SMALL, 100, SHAPE, r"dense0_\w+ has the shape \(10.*\), \(100.*\) is needed"),
    ],
)
def test_parameters_of_another_network_are_refused(
    network: str, classes: int, shape: tuple[int, int, int], message: str, small_params: bytes, tmp_path: Path
) -> None:
    (tmp_path / "small.params").write_bytes(small_params)
    with pytest.raises(ModelFormatError, match=message):
        export(tmp_path / "small.params", network, classes, shape, tmp_path / "out")


def test_a_picture_is_prepared_as_gluon_prepares_it() -> None:
    """Gluon's own chain: shorter side to 256 (bilinear), centre, 0-1, ImageNet's mean and deviation."""
    import mxnet as mx
    from mxnet.gluon.data.vision import transforms

    from app.vision.preprocess import to_tensor

    waves = np.fromfunction(lambda y, x, c: 127 + 100 * np.sin(x / 17 + c) * np.cos(y / 23), (300, 401, 3))
    pixels = waves.astype(np.uint8)
    chain = transforms.Compose(
        [
            transforms.Resize(256, keep_ratio=True),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    given = mx.nd.empty(pixels.shape, dtype=np.uint8)
    given[:] = pixels
    expected = chain(given).asnumpy()
    entry = SHIPPED.get("resnet18_v1")
    tensor = to_tensor(Image.fromarray(pixels), entry.preprocess, (0, *entry.shape))
    level = 1 / 255 / 0.224  # one of the 256 levels, as the tensor has it
    assert np.abs(tensor.reshape(3, 224, 224) - expected).max() < 1.1 * level


def test_a_zip_with_the_published_name_and_other_content_is_refused(small_params: bytes, tmp_path: Path) -> None:
    from app.errors import DataError

    entry = SHIPPED.get("cifar_resnet20_v1")
    path = tmp_path / "cifar_resnet20_v1-121e1579.zip"
    path.write_bytes(zipped_names({"cifar_resnet20_v1-121e1579.params": small_params}))
    with pytest.raises(DataError, match="121e1579d811b091940b3b1fa033e1f0d1dca40f was published"):
        build_folder(entry, [path], tmp_path / "model", "model", "here")


def test_the_published_cifar_network_matches_our_shapes() -> None:
    """A checkpoint that GluonCV's authors exported themselves: its arrays are shaped as those of our definition."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "cifar_resnet20_v1"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    from app.zoo.gluon import trace

    arrays = read_params(next(folder.glob("*.params")))
    _net, symbol = trace("cifar_resnet20_v1", 10)
    arguments, _outputs, states = symbol.infer_shape(data=(1, 3, 32, 32))
    ours = sorted(arguments[1:] + states)
    assert sorted(array.shape for array in arrays.values()) == ours


def test_logits_and_probabilities_differ_only_by_softmax(small_net: Any, tmp_path: Path) -> None:
    saved(small_net, tmp_path / "small.params")
    export(tmp_path / "small.params", SMALL, CLASSES, SHAPE, tmp_path / "out")
    batch = random_batch(SHAPE, 4)
    given = logits(small_net, batch)
    powers = np.exp(given - given.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(computed(tmp_path / "out", batch, SHAPE), expected, atol=1e-5)
