"""Hostile requests of every kind, and their cost for the server: processor time and memory per MiB sent."""

from __future__ import annotations

import gzip
import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from bench.perf.processes import family
from bench.reliability.served import Served

MIB = 2**20
QUIET_SECONDS = 2.1
FEWEST_MIB = 1.0
"""What is less than this counts as so much: answering costs something, too."""
URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=XX"
TENSOR = {"name": "/conv2d_1_input1", "datatype": "FP32", "shape": [1, 1, 64, 64]}
FREE = 64.0
"""MiB that a request may take, however short it is: buffers, and what the C library keeps for the next."""
PIXELS_MIB = 1024.0
"""For a picture of as many pixels as are allowed, which is short."""


@dataclass(frozen=True)
class Attack:
    """A request.

    :param body: made for a number of bytes.
    :param seconds: most processor time for each MiB.
    :param times: most memory, in MiB for each MiB.
    :param free: most memory beside that, in MiB.
    :param longest: bytes that the request may have; None for any number.
    """

    name: str
    path: str
    kind: str
    body: Callable[[int], bytes]
    seconds: float = 0.5
    times: float = 4.0
    free: float = FREE
    longest: int | None = None
    management: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """The cost of a request: MiB sent, the status, processor seconds, and the peak in MiB above the memory before."""

    attack: Attack
    sent: float
    status: int
    seconds: float
    memory: float

    @property
    def seconds_per_mib(self) -> float:
        return self.seconds / max(self.sent, FEWEST_MIB)

    @property
    def memory_per_mib(self) -> float:
        return self.memory / max(self.sent, FEWEST_MIB)

    @property
    def holds(self) -> bool:
        """Return whether the status is a client error or a deserved success, within the bounds."""
        bearable = self.memory <= self.attack.free + self.attack.times * self.sent
        return self.status < 500 and bearable and self.seconds_per_mib <= self.attack.seconds


def filled(unit: bytes, size: int) -> bytes:
    """Return as much of a text as fits into the given number of bytes."""
    return unit * (size // len(unit))


def _list(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b"[" + filled(unit + b",", size - 10) + unit + b"]"


def _v2(data: Callable[[int], bytes], **tensor: object) -> Callable[[int], bytes]:
    head = json.dumps({"inputs": [{**TENSOR, **tensor, "data": "DATA"}]}).encode()
    return lambda size: head.replace(b'"DATA"', data(size - len(head)))


def _text(unit: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: b'"' + filled(unit, size - len(end) - 2) + end + b'"'


def _form(head: bytes, unit: bytes, end: bytes = b"\r\n--XX--\r\n") -> Callable[[int], bytes]:
    return lambda size: head + filled(unit, size - len(head) - len(end)) + end


def _part(disposition: bytes, headers: bytes = b"") -> bytes:
    return b"--XX\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + headers + b"\r\n"


def _npy(shape: tuple[int, ...], kind: str) -> Callable[[int], bytes]:
    def made(size: int) -> bytes:
        file = io.BytesIO()
        rows = max(1, size // (int(np.prod(shape)) * np.dtype(kind).itemsize))
        np.save(file, np.zeros((rows, *shape), kind))
        return file.getvalue()

    return made


def _rows(write: Callable[[np.ndarray], bytes]) -> Callable[[int], bytes]:
    """Return as many rows as are allowed, as the network takes them."""
    return lambda _: write(np.ones((32, 3, 150, 150), np.uint8))


def _saved(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _lines(values: np.ndarray) -> bytes:
    return b"\n".join(b",".join([b"1"] * row.size) for row in values)


def _outputs(size: int) -> bytes:
    outputs = [{"name": f"o{number}"} for number in range(size // 20)]
    return json.dumps({"inputs": [{**TENSOR, "data": [0] * 4096}], "outputs": outputs}).encode()


def _inputs(size: int) -> bytes:
    one = json.dumps({**TENSOR, "data": [0]}).encode()
    return b'{"inputs":[' + filled(one + b",", size) + one + b"]}"


def _elements(size: int) -> bytes:
    count = size // 4
    head = json.dumps(
        {
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [32], "parameters": {"binary_data_size": count * 4}}
            ]
        }
    ).encode()
    return head.ljust(1000) + bytes(count * 4)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(chunks: Callable[[int], bytes], width: int = 64, height: int = 64) -> Callable[[int], bytes]:
    def made(size: int) -> bytes:
        pixels = zlib.compress(bytes((width + 1) * height), 9)
        head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        return head + chunks(size) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")

    return made


def _texts(size: int) -> bytes:
    """Return compressed comments, each of which unpacks to a megabyte."""
    packed = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(MIB), 9))
    return filled(packed, min(size, MIB))


def _tiff(order: bytes, count: int) -> Callable[[int], bytes]:
    """Return a TIFF whose tags each claim all of the file (TIFF 6.0, section 2; BigTIFF has longer offsets)."""
    sign = "<" if order[:1] == b"I" else ">"
    big = b"+" in order

    def made(size: int) -> bytes:
        tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
        tags += [(278, 4, 1, 8), (279, 4, 1, 64)] + [(33000 + number, 7, size - 4096, 4096) for number in range(count)]
        entry, number = ("HHQQ", "Q") if big else ("HHII", "H")
        directory = struct.pack(sign + number, len(tags))
        for tag in tags:
            if tag[1] == 3:  # a short lies at the beginning of its field
                value = struct.pack(sign + "H", tag[3]).ljust(8 if big else 4, b"\0")
                directory += struct.pack(sign + entry[:3], *tag[:3]) + value
            else:
                directory += struct.pack(sign + entry, *tag)
        head = order + (struct.pack(sign + "HHQ", 8, 0, 16) if big else struct.pack(sign + "I", 8))
        return (head + directory + bytes(16)).ljust(size, b"\0")

    return made


def _rle(width: int, height: int, bits: int) -> Callable[[int], bytes]:
    """Return a BMP of runs of one pixel (Windows' BI_RLE8 and BI_RLE4)."""

    def made(size: int) -> bytes:
        table = bytes(4 << bits)
        row = b"\xff\x11" * (width // 255) + b"\0\0"
        pixels = (row * height)[: size - 1200] + b"\0\1"
        offset = 54 + len(table)
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 2 if bits == 4 else 1, len(pixels), 0, 0, 0, 0)
        return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + info + table + pixels

    return made


def _gif(size: int) -> bytes:
    """Return a GIF of one picture whose data are blocks of one byte."""
    head = b"GIF89a" + struct.pack("<HHBBB", 2000, 2000, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, 2000, 2000, 0) + b"\2" + filled(b"\1\0", size) + b"\0;"


def _gif_extensions(size: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + bytes(6)
    return head + filled(b"!\xfe\1a\0", size) + b"," + struct.pack("<HHHHB", 0, 0, 9, 9, 0) + b"\2\1\0\0;"


def _jpeg_comments(size: int) -> bytes:
    return b"\xff\xd8" + filled(b"\xff\xfe\0\2", size) + b"\xff\xd9"


INVOKE, PREDICT, MMS, PAGE = (
    "/invocations?model_name=smile",
    "/predict/smile",
    "/predictions/smile",
    "/file/?model=smile",
)
V2 = "/v2/models/smile/infer"
TEXT = 8 * MIB - 100
"""What a form's text may have."""
FORMS = (
    tuple(
        Attack(f"{what}, {path.partition('?')[0]}", path, URLENCODED, body)
        for path in (INVOKE, MMS, PAGE)
        for what, body in (
            ("a urlencoded field", lambda size: b"data=" + filled(b"A", size)),
            ("a urlencoded field of %41", lambda size: b"data=" + filled(b"%41", size)),
            ("a urlencoded form of nothing but &", lambda size: filled(b"&", size)),
            ("urlencoded fields", lambda size: filled(b"a=1&", size)),
            (
                "a urlencoded field that is not ASCII",
                lambda size: b"data=" + filled("\N{GRINNING FACE}".encode(), size),
            ),
        )
    )
    + tuple(
        Attack(f"{what} that is taken, {path.partition('?')[0]}", path, URLENCODED, body, longest=TEXT)
        for path in (INVOKE, MMS, PAGE)
        for what, body in (
            ("a urlencoded field", lambda size: b"data=" + filled(b"A", size - 5)),
            ("a urlencoded field of %41", lambda size: b"data=" + filled(b"%41", size - 5)),
        )
    )
    + tuple(
        Attack(f"{what}, {path.partition('?')[0]}", path, MULTIPART, body)
        for path in (PREDICT, MMS, PAGE)
        for what, body in (
            ("a form's long file", _form(_part(b'name="file"; filename="a"'), b"A")),
            ("a form's long text", _form(_part(b"name=a"), b"A")),
            ("a form's long texts", _form(b"", _part(b"name=a") + b"A" * 2**18 + b"\r\n", b"--XX--")),
            ("a form's parts", _form(b"", _part(b"name=a") + b"\r\n", b"--XX--")),
            ("a part's header lines", _form(b"--XX\r\nContent-Disposition: form-data; name=a\r\n", b"a:b\r\n")),
            ("a part's long header", _form(b"--XX\r\nContent-Disposition: form-data; name=", b"a")),
            ("a form's file of line ends", _form(_part(b'name="file"; filename="a"'), b"\r\n")),
            ("a form's file of half boundaries", _form(_part(b'name="file"; filename="a"'), b"\r\n--X")),
            ("a form without a beginning", _form(b"", b"\r\n--X")),
        )
    )
)
LISTS = (
    ("numbers", _list(b"1")),
    ("rows of one number", _list(b"[1]")),
    ("empty lists", _list(b"[]")),
    ("empty objects", _list(b"{}")),
    ("short texts", _list(b'"ab"')),
    ("truths", _list(b"true")),
    ("pictures of none", _list(b'{"b64":""}')),
    ("brackets", lambda size: filled(b"[", size)),
    ("brackets that close", lambda size: b"[" * (size // 2) + b"]" * (size // 2)),
    ("quotes", lambda size: filled(b'"', size)),
    ("escaped quotes", _text(b'\\"')),
    ("a text with a wide character", _text(b"a", "\N{GRINNING FACE}".encode())),
    ("a text with an escaped one", _text(b"a", b"\\ud83d\\ude00")),
    ("keys", lambda size: b"{" + filled(b'"a":1,', size) + b'"a":1}'),
)
TENSORS = (
    *(Attack(f"JSON: {name}, /invocations", INVOKE, JSON, body) for name, body in LISTS),
    *(Attack(f"JSON: {name}, /v2", V2, JSON, _v2(body)) for name, body in LISTS),
    Attack(
        "JSON: a picture in base64, /invocations", INVOKE, JSON,
        lambda n: b'[{"b64":' + _text(b"A")(n - 10) + b"}]",
    ),
    Attack(
        "JSON: a picture in base64, /v2", V2, JSON,
        _v2(_list(b'"' + b"A" * 2**18 + b'"'), name="image", datatype="BYTES", shape=[32]),
    ),
    Attack("outputs that are not there, /v2", V2, JSON, _outputs),
    Attack("inputs that are not there, /v2", V2, JSON, _inputs),
    Attack("elements of no bytes, /v2", V2, "", _elements, headers={"Inference-Header-Content-Length": "1000"}),
    Attack(
        "gzip of numbers, /v2", V2, JSON, lambda n: gzip.compress(_v2(_list(b"1"))(n)), 16, free=FREE + 4 * 32,
        headers={"Content-Encoding": "gzip"},
    ),
    Attack("CSV: one row", INVOKE, "text/csv", lambda n: filled(b"1,", n) + b"1"),
    Attack("CSV: rows of one", INVOKE, "text/csv", lambda n: filled(b"1\n", n)),
    Attack("CSV: empty rows", INVOKE, "text/csv", lambda n: filled(b" \n", n)),
    Attack("CSV: long numbers", INVOKE, "text/csv", lambda n: filled(b"1", n)),
    Attack("npy: too many rows", INVOKE, "application/x-npy", _npy((1, 64, 64), "u1")),
    Attack("npy: another shape", INVOKE, "application/x-npy", _npy((3,), "f8")),
    *(
        Attack(f"{name}: 32 rows that fit", "/invocations?model_name=dogcat", kind, _rows(write), 3.0)
        for name, kind, write in (
            ("npy", "application/x-npy", _saved),
            ("JSON", JSON, lambda values: json.dumps(values.tolist(), separators=(",", ":")).encode()),
            ("CSV", "text/csv", _lines),
        )
    ),
    Attack("gzip of zeros", PREDICT, "", lambda n: gzip.compress(bytes(n)), free=FREE + 4 * 32,
           headers={"Content-Encoding": "gzip"}),
    Attack("JSON: management", "/models", JSON, _list(b'"ab"'), management=True),
    Attack("JSON: single quotes, management", "/models", JSON, lambda n: filled(b"'", n), management=True),
    Attack("zeros", PREDICT, "application/octet-stream", lambda n: bytes(n)),
)  # fmt: skip
PICTURES = (
    *(
        Attack(f"a TIFF whose tags claim all of it ({order!r}), {path.partition('?')[0]}", path, "image/tiff",
               _tiff(order, 100))
        for order in (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")
        for path in (PREDICT, PAGE)
    ),
    Attack("a BigTIFF of 16 bytes", PREDICT, "image/tiff", lambda _: b"II+\0\x08\0\0\0" + b"\xff" * 8),
    Attack("a BMP of RLE4, 8,000 x 8,000", PREDICT, "image/bmp", _rle(8000, 8000, 4), 2.0, free=PIXELS_MIB),
    Attack("a BMP of RLE8, 8,000 x 8,000", PREDICT, "image/bmp", _rle(8000, 8000, 8), 2.0, free=PIXELS_MIB),
    Attack("a GIF of blocks of one byte", PREDICT, "image/gif", _gif),
    Attack("a GIF of comments", PREDICT, "image/gif", _gif_extensions),
    Attack("a JPEG of comments", PREDICT, "image/jpeg", _jpeg_comments),
    *(
        Attack(f"a PNG of packed comments, {path.partition('?')[0]}", path, "image/png", _png(_texts))
        for path in (PREDICT, PAGE)
    ),
    Attack("a PNG of 8,000 x 8,000", PREDICT, "image/png", _png(lambda _: b"", 8000, 8000), 3.0, free=PIXELS_MIB),
)  # fmt: skip
ALL = (*FORMS, *TENSORS, *PICTURES)


def cost(served: Served, attack: Attack, size: int, before: float | None = None) -> Cost:
    """Send a request, and measure.

    :param before: MiB that the server held before; None to wait until it has given back what earlier requests took.
    """
    body = attack.body(min(size, attack.longest or size))
    processes = [psutil.Process(item) for item in family(served.pid)]
    before = settled(processes) if before is None else before
    for process in processes:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # VmHWM begins again
    spent = _spent(processes)
    headers = {"Content-Type": attack.kind, **attack.headers}
    status, _, _ = served.ask("POST", attack.path, body, attack.management, headers, 600)
    seconds = _spent(processes) - spent
    peak = sum(_kilobytes(process.pid, "VmHWM") for process in processes) / 1024
    return Cost(attack, len(body) / MIB, status, seconds, max(0.0, peak - before))


def settled(processes: list[psutil.Process]) -> float:
    """Wait until the processes return no more memory; return the MiB that they hold."""
    held = float("inf")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        now = sum(_kilobytes(process.pid, "VmRSS") for process in processes) / 1024
        if now >= held:
            return now
        held = now
        time.sleep(QUIET_SECONDS)  # the server tidies up when it has been idle for a second
    return held


def _spent(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _kilobytes(process: int, name: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0
