"""Mutations of pickles: instructions are removed, inserted and changed, and the rest remains a pickle."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from itertools import pairwise
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
    """Damage one of the pickles at the start of a file."""
    if random.random() < 0.2:
        return blind.mutate(data, random)
    programs, rest = _programs(data)
    if not programs:
        return blind.mutate(data, random)
    index = random.choice((random.randrange(len(programs)), min(3, len(programs) - 1)))
    for _ in range(random.choice((1, 1, 2, 4))):
        programs[index] = _mutate_program(programs[index], random)
    return b"".join(b"".join(program) for program in programs) + rest


def _programs(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """Return the instructions of each pickle at the start of a file, and the remaining bytes."""
    file, programs = io.BytesIO(data), []
    end = 0
    while len(programs) < 5:
        try:
            starts = [position for _code, _argument, position in pickletools.genops(file)]
        except Exception:  # pickletools raises many types on other bytes
            break
        end = file.tell()
        programs.append([data[begin:stop] for begin, stop in pairwise([*starts, end])])  # type: ignore[misc]
    return programs, data[end:]


def _mutate_program(program: list[bytes], random: Random) -> list[bytes]:
    if not program:
        return [random.choice(SNIPPETS)]
    index = random.randrange(len(program))
    instruction = program[index]
    mutation = random.randrange(7)
    if mutation == 0:
        new = []
    elif mutation == 1:
        new = [random.choice(SNIPPETS), instruction]
    elif mutation == 2:
        new = [random.choice(SNIPPETS)]
    elif mutation == 3:
        end = min(len(program), index + random.randrange(1, 12))
        return program[:end] + program[index:end] * random.choice((1, 1, 30)) + program[end:]
    elif mutation == 4:
        new = [pickle.BININT + struct.pack("<i", max(-(2**31), min(2**31 - 1, integer(random))))]
    elif mutation == 5:
        new = [pickle.LONG1 + b"\x0a" + integer(random).to_bytes(10, "little", signed=True)]
    else:
        new = [blind.overwrite_number(instruction, min(1, len(instruction)), random)]
    return program[:index] + new + program[index + 1 :]
