"""Small intact files: written by code, except for the ``.h5`` and ``.keras`` files, which Keras wrote for the tests."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from app.formats.archive.pack import manifest_text
from app.formats.mxnet_params import write_params
from app.formats.torch_pickle import MAGIC, VERSION
from app.settings import ROOT
from fuzz.mutations.archive_members import Member, write_tgz, write_zip

KERAS_FILES = (
    *("keras_sequential.h5", "keras_branches.h5", "tf_keras_nested.h5", "tf_keras_newer.h5"),  # Keras-MXNet, tf.keras
    *("keras1_th_graph.h5", "keras1_tf_sequential.h5"),
    *("keras300_sequential.keras", "keras315_entrance.keras", "keras315_recurrent.keras", "keras315_shared.keras"),
    "tf215_archive_shared.keras",
)
CLASSES = 3
SHAPES = {"c_weight": (4, 3, 16, 16), "c_bias": (4,), "fc_weight": (CLASSES, 4), "fc_bias": (CLASSES,)}
FLAT_SHAPES = {"c_weight": (4, 3, 16, 16), "fc_weight": (CLASSES, 4 * 14 * 14), "fc_bias": (CLASSES,)}
SIGNATURE = {
    "inputs": [{"data_name": "data", "data_shape": [0, 3, 28, 28]}],
    "input_type": "image/jpeg",
    "outputs": [{"data_name": "softmax", "data_shape": [0, CLASSES]}],
    "output_type": "application/json",
    "preprocess": {"color": "bgr", "resize": "crop", "shorter_side": 32, "interpolation": "bilinear", "antialias": True,
                   "scale": 0.5, "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 3.0], "layout": "NCHW", "faces": False},
    "postprocess": {"activation": "softmax", "top": 5},
}  # fmt: skip
LEGACY = {
    "Engine": {"MXNet": 0.12},
    "Model-Archive-Description": "net",
    "Model-Archive-Version": 0.2,
    "Model-Server": 0.4,
    "Model": {"Service": "service.py", "Signature": "signature.json", "Symbol": "net-symbol.json",
              "Parameters": "net-0000.params", "Model-Name": "net", "Description": "net"},
}  # fmt: skip


def symbols() -> list[bytes]:
    """Return a network with global pooling, a network that flattens its maps, and the latter as of MXNet 0.8."""
    window = {"kernel": "(2, 2)", "stride": "(2, 2)", "pad": "(0, 0)", "pool_type": "max"}
    return [
        _symbol({"kernel": "(1, 1)", "global_pool": "True", "pool_type": "avg"}, True, "attrs"),
        _symbol(window | {"pooling_convention": "full"}, False, "attrs"),
        _symbol(window, False, "param"),
    ]


def _symbol(pooling: dict[str, str], bias: bool, attributes_key: str) -> bytes:
    nodes: list[dict[str, Any]] = []

    def add(op: str, name: str, attrs: dict[str, str], *inputs: int) -> int:
        attributes = {attributes_key: attrs} if attrs else {}
        nodes.append({"op": op, "name": name, **attributes, "inputs": [[number, 0, 0] for number in inputs]})
        return len(nodes) - 1

    def add_layer(op: str, name: str, attrs: dict[str, str], data: int, with_bias: bool) -> int:
        arrays = [add("null", f"{name}_{kind}", {}) for kind in ("weight", *(["bias"] if with_bias else []))]
        return add(op, name, attrs, data, *arrays)

    side, pad = (16, 0) if bias else (3, 1)
    window = {"kernel": f"({side}, {side})", "stride": f"({16 if bias else 1}, {16 if bias else 1})"}
    window |= {"pad": f"({pad}, {pad})", "num_filter": "4", "no_bias": str(not bias)}
    node = add_layer("Convolution", "c", window, add("null", "data", {}), bias)
    node = add("Pooling", "p", pooling, add("Activation", "r", {"act_type": "relu"}, node))
    node = add_layer("FullyConnected", "fc", {"num_hidden": str(CLASSES)}, add("Flatten", "f", {}, node), True)
    head = add("SoftmaxOutput", "softmax", {}, node, add("null", "softmax_label", {}))
    arguments = [number for number, node in enumerate(nodes) if node["op"] == "null"]
    return json.dumps({"nodes": nodes, "arg_nodes": arguments, "heads": [[head, 0, 0]],
                       "attrs": {"mxnet_version": ["int", 10901]}}).encode()  # fmt: skip


def params(shapes: dict[str, tuple[int, ...]] = SHAPES) -> bytes:
    """Return the parameters of a checkpoint."""
    arrays = {f"arg:{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_params(Path(folder) / "net.params", arrays)
        return (Path(folder) / "net.params").read_bytes()


def legacy_params() -> bytes:
    """Return parameters in MXNet's first format, in which an array begins with its number of dimensions."""
    array = struct.pack("<IIIiii", 2, 2, 3, 1, 0, 0) + np.zeros(6, "<f4").tobytes()
    return struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 5) + b"arg:w"


def keras_files(suffix: str) -> list[bytes]:
    """Return ``.h5`` or ``.keras`` files of several generations of Keras."""
    return [(ROOT / "tests" / "testdata" / name).read_bytes() for name in KERAS_FILES if name.endswith(suffix)]


def archives() -> list[bytes]:
    """Return archives of one network: MMS 1.x as zip and as tgz, MMS 0.x, and MMS 1.x without a signature."""
    files = [
        Member("net-symbol.json", symbols()[0]),
        Member("net-0000.params", params()),
        Member("signature.json", json.dumps(SIGNATURE).encode()),
        Member("synset.txt", b"a\nb\nc\n"),
        Member("service.py", b"def handle(data, context):\n    return data\n"),
    ]
    manifest = Member("MAR-INF/MANIFEST.json", manifest_text("net", "service:handle", "python").encode())
    legacy = Member("MANIFEST.json", json.dumps(LEGACY).encode())
    random = Random(0)
    return [
        write_zip([*files, manifest], random),
        write_tgz([Member(f"net/{member.name}", member.content) for member in (*files, manifest)], random),
        write_zip([*files, legacy], random),
        write_zip([*(member for member in files if member.name != "signature.json"), manifest], random),
    ]


class _TorchPickler(pickle._Pickler):  # type: ignore[misc, name-defined]
    """A pickler of persistent ids and of PyTorch's names, which need not be installed."""

    def persistent_id(self, obj: Any) -> Any:
        return obj[1] if isinstance(obj, tuple) and obj[:1] == ("<id>",) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _TensorCall):
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, _TorchName):
            self.write(f"ctorch\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


class _TensorCall:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class _TorchName:
    def __init__(self, name: str) -> None:
        self.name = name


def state_dict() -> bytes:
    """Return a state dict in PyTorch's legacy format: two tensors that share a storage, and an integer."""
    floats = ("<id>", ("storage", _TorchName("FloatStorage"), "1", "cpu", 6, None))
    integers = ("<id>", ("storage", _TorchName("LongStorage"), "2", "cpu", 1, None))
    hooks: collections.OrderedDict[Any, Any] = collections.OrderedDict()
    state = collections.OrderedDict(
        w=_TensorCall(floats, 0, (2, 3), (3, 1), False, hooks),
        v=_TensorCall(floats, 3, (3,), (1,), False, hooks),
        n=_TensorCall(integers, 0, (), (), False, hooks),
    )
    file = io.BytesIO()
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for item in (MAGIC, VERSION, machine, state, ["1", "2"]):
        _TorchPickler(file, 2).dump(item)
    file.write(struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes())
    file.write(struct.pack("<q", 1) + np.array([9], "<i8").tobytes())
    return file.getvalue()


def onnx_files() -> list[bytes]:
    """Return a small network alone, with Dimple's metadata, and with external weights, each in another opset."""
    from onnx import TensorProto, helper, numpy_helper

    def serialize(opset: int, metadata: dict[str, str], external: bool) -> bytes:
        weights = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w")
        if external:
            weights.ClearField("raw_data")
            weights.data_location = TensorProto.EXTERNAL
            weights.external_data.add(key="location", value="net.bin")
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["pixels", "w"], ["maps"], pads=[1, 1, 1, 1]),
                helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["row"], axis=1),
                helper.make_node("Softmax", ["row"], ["answer"], axis=1),
            ],
            "net",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 28, 28])],
            [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 4])],
            [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        helper.set_model_props(model, metadata)
        return bytes(model.SerializeToString())

    metadata = {"signature": json.dumps(SIGNATURE), "labels": json.dumps(["a", "b", "c", "d"])}
    return [serialize(13, {}, False), serialize(9, metadata, False), serialize(17, {}, True)]


def pictures() -> list[bytes]:
    """Return pictures in all formats, and in the variants that decoders treat separately: palettes, 16 bits …"""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    rgb = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    variants: list[tuple[Any, str, dict[str, Any]]] = [
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb.convert("L"), "JPEG", {"restart_marker_blocks": 1}),
        (rgb, "PNG", {"exif": exif}),
        (rgb.convert("P"), "PNG", {"transparency": 3}),
        (rgb.convert("RGBA"), "PNG", {}),
        (rgb.convert("1"), "PNG", {}),
        (grey16, "PNG", {}),
        (rgb.convert("P"), "GIF", {"save_all": True, "append_images": [rgb.convert("P").rotate(90)], "comment": b"c"}),
        (rgb, "WEBP", {"exif": exif}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, "BMP", {}),
        (rgb.convert("P"), "BMP", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (rgb, "TIFF", {"compression": "packbits"}),
        (grey16, "TIFF", {}),
        (rgb.convert("F").point(lambda value: value / 255), "TIFF", {}),
        (rgb, "TIFF", {"big_tiff": True}),
    ]
    bitmaps = [  # which Pillow does not write
        _bitmap(4, 2, b"\x03\x12\0\x05\x12\x34\x50\0\0\0\0\2\1\1\2\x44\0\1", bytes(64)),
        _bitmap(8, 1, b"\x05\x07\0\3\1\2\3\0\0\0\4\x09\0\1", bytes(1024)),
        _bitmap(16, 3, bytes(range(96)), struct.pack("<3I", 0xF00, 0xF0, 0xF)),
        _bitmap(32, 6, bytes(range(192)), struct.pack("<4I", 0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
    ]
    return [_encode(image, kind, options) for image, kind, options in variants] + bitmaps


def _bitmap(bits: int, compression: int, body: bytes, tables: bytes) -> bytes:
    """Return a BMP of 8 x 6 pixels, with run-length encoding or bit fields."""
    start = 54 + len(tables)
    header = struct.pack("<IiiHHIIiiII", 40, 8, 6, 1, bits, compression, len(body), 0, 0, 0, 0)
    return struct.pack("<2sIII", b"BM", start + len(body), 0, start) + header + tables + body


def _encode(image: Any, kind: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture_zips() -> list[bytes]:
    """Return a zip of a folder for each class, and of files that are no pictures."""
    png = pictures()[4]
    names = ("all/cats/1.png", "all/cats/2.png", "all/dogs/1.png", "__MACOSX/._1.png", "all/.hidden.png")
    return [write_zip([Member(name, png) for name in names], Random(0))]
