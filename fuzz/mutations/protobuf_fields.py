"""Damage to protocol buffers, field by field: what comes of it is a message of the same kind."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.mutations import blind
from fuzz.mutations.values import FLOATS, integer, text


def change(message: Any, random: Random) -> None:
    """Change one field of a message, or of one of those in it."""
    holder = message
    while True:
        fields = holder.ListFields()
        inner = [one for _field, value in fields for one in _messages(value)]
        if not inner or random.random() < 0.25:
            break
        holder = random.choice(inner)
    descriptor = random.choice(list(holder.DESCRIPTOR.fields))
    if fields and random.random() < 0.8:
        descriptor = random.choice(fields)[0]
    if random.random() < 0.15:
        holder.ClearField(descriptor.name)
    elif _is_repeated(holder, descriptor):
        _repeated(getattr(holder, descriptor.name), descriptor, random)
    elif descriptor.message_type is not None:
        getattr(holder, descriptor.name).SetInParent()
    else:
        setattr(holder, descriptor.name, _value(descriptor, random))


def _messages(value: Any) -> list[Any]:
    if hasattr(value, "ListFields"):
        return [value]
    return [one for one in value if hasattr(one, "ListFields")] if hasattr(value, "append") else []


def _is_repeated(holder: Any, descriptor: Any) -> bool:
    return hasattr(getattr(holder, descriptor.name), "append")


def _repeated(values: Any, descriptor: Any, random: Random) -> None:
    how = random.randrange(3)
    if how == 0 and len(values):
        del values[random.randrange(len(values))]
    elif descriptor.message_type is not None:
        added = values.add()
        if len(values) > 1 and how == 1:
            added.CopyFrom(values[random.randrange(len(values) - 1)])
    elif how == 1 and len(values):
        values[random.randrange(len(values))] = _value(descriptor, random)
    else:
        values.extend([_value(descriptor, random)] * random.choice((1, 1, 30)))


def _value(descriptor: Any, random: Random) -> Any:
    kind = descriptor.cpp_type
    if kind == descriptor.CPPTYPE_STRING:
        said = text(random).encode("utf-8", "replace")
        return said if descriptor.type == descriptor.TYPE_BYTES else said.decode()
    if kind in (descriptor.CPPTYPE_FLOAT, descriptor.CPPTYPE_DOUBLE):
        return random.choice(FLOATS[:5])
    if kind == descriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if kind == descriptor.CPPTYPE_ENUM:
        return random.choice(descriptor.enum_type.values).number
    bits = 31 if kind in (descriptor.CPPTYPE_INT32, descriptor.CPPTYPE_UINT32) else 63
    number = integer(random) % 2**bits
    unsigned = kind in (descriptor.CPPTYPE_UINT32, descriptor.CPPTYPE_UINT64)
    return number if unsigned or random.random() < 0.7 else -number


def mutate(data: bytes, kind: Any, random: Random) -> bytes:
    """Change a message of that kind; bytes that are none, anywhere."""
    if random.random() < 0.15:
        return blind.mutate(data, random)
    message = kind()
    try:
        message.ParseFromString(data)
    except Exception:  # protobuf's own, and what it raises beside
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        try:
            change(message, random)
        except (TypeError, ValueError):  # a map, or a value out of range
            continue
    return bytes(message.SerializeToString())
