"""Damage to a pickle's program: instructions go, come and change, and the rest stays a pickle."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from random import Random

from fuzz.mutations import blind
from fuzz.mutations.values import integer

SNIPPETS = (
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\ngetattr\n", b"cposix\nsystem\n", b"ios\nsystem\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n"),
    *(pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.OBJ, pickle.SETITEM, pickle.SETITEMS, pickle.APPEND),
    *(pickle.APPENDS, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.STOP, pickle.BINPERSID),
    *(pickle.STACK_GLOBAL, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE3),
    *(pickle.EMPTY_SET, pickle.FROZENSET, pickle.NONE, pickle.NEWTRUE, pickle.MEMOIZE, pickle.NEXT_BUFFER),
    *(b"Pname\n", b"g0\n", b"p4000000000\n", b"X\x05\0\0\0arg:a", b"V\\ud800\n", b"\x82\x01", b"(tR", b"}b"),
    b"I" + b"9" * 5000 + b"\n",
)  # fmt: skip


def mutate(data: bytes, random: Random) -> bytes:
    """Change one of the pickles that the file is made of."""
    if random.random() < 0.2:
        return blind.mutate(data, random)
    parts, rest = _programs(data)
    if not parts:
        return blind.mutate(data, random)
    at = random.choice((random.randrange(len(parts)), min(3, len(parts) - 1)))
    for _ in range(random.choice((1, 1, 2, 4))):
        parts[at] = _change(parts[at], random)
    return b"".join(b"".join(program) for program in parts) + rest


def _programs(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """The pickles that the file begins with, each as its instructions, and what follows them."""
    file, programs = io.BytesIO(data), []
    end = 0
    while len(programs) < 5:
        try:
            starts = [position for _code, _argument, position in pickletools.genops(file)]
        except Exception:  # no pickle any more
            break
        stops = [*starts[1:], file.tell()]
        programs.append([data[begin:stop] for begin, stop in zip(starts, stops, strict=True)])  # type: ignore[misc]
        end = file.tell()
    return programs, data[end:]


def _change(program: list[bytes], random: Random) -> list[bytes]:
    if not program:
        return [random.choice(SNIPPETS)]
    at = random.randrange(len(program))
    how = random.randrange(7)
    if how == 0:
        return program[:at] + program[at + 1 :]
    if how == 1:
        return [*program[:at], random.choice(SNIPPETS), *program[at:]]
    if how == 2:
        return [*program[:at], random.choice(SNIPPETS), *program[at + 1 :]]
    if how == 3:
        end = min(len(program), at + random.randrange(1, 12))
        return program[:end] + program[at:end] * random.choice((1, 1, 30)) + program[end:]
    if how == 4:
        number = pickle.BININT + struct.pack("<i", max(-(2**31), min(2**31 - 1, integer(random))))
        return [*program[:at], number, *program[at + 1 :]]
    if how == 5:
        long = integer(random).to_bytes(10, "little", signed=True)
        return [*program[:at], pickle.LONG1 + bytes([len(long)]) + long, *program[at + 1 :]]
    return [*program[:at], blind.number_at(program[at], min(1, len(program[at])), random), *program[at + 1 :]]
