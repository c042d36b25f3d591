"""Mutations of protocol buffers, field by field, into messages of the same type."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.mutations import blind
from fuzz.mutations.values import FLOATS, integer, text


def mutate(data: bytes, message_type: Any, random: Random) -> bytes:
    """Damage a message of a type, or any bytes if it is none."""
    if random.random() < 0.15:
        return blind.mutate(data, random)
    message = message_type()
    try:
        message.ParseFromString(data)
    except Exception:  # protobuf raises more than its own DecodeError
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        try:
            _mutate_message(message, random)
        except (TypeError, ValueError):  # a map, or a value out of range
            continue
    return bytes(message.SerializeToString())


def _mutate_message(message: Any, random: Random) -> None:
    """Change one field of a message, or of a message inside it."""
    while True:
        fields = message.ListFields()
        children = [child for _descriptor, value in fields for child in _messages(value)]
        if not children or random.random() < 0.25:
            break
        message = random.choice(children)
    descriptor = random.choice(list(message.DESCRIPTOR.fields))
    if fields and random.random() < 0.8:
        descriptor = random.choice(fields)[0]
    if random.random() < 0.15:
        message.ClearField(descriptor.name)
    elif hasattr(getattr(message, descriptor.name), "append"):
        _mutate_repeated(getattr(message, descriptor.name), descriptor, random)
    elif descriptor.message_type is not None:
        getattr(message, descriptor.name).SetInParent()
    else:
        setattr(message, descriptor.name, _value(descriptor, random))


def _messages(value: Any) -> list[Any]:
    """Return the messages that are a field's value."""
    if hasattr(value, "ListFields"):
        return [value]
    return [item for item in value if hasattr(item, "ListFields")] if hasattr(value, "append") else []


def _mutate_repeated(values: Any, descriptor: Any, random: Random) -> None:
    mutation = random.randrange(3)
    if mutation == 0 and len(values):
        del values[random.randrange(len(values))]
    elif descriptor.message_type is not None:
        child = values.add()
        if len(values) > 1 and mutation == 1:
            child.CopyFrom(values[random.randrange(len(values) - 1)])
    elif mutation == 1 and len(values):
        values[random.randrange(len(values))] = _value(descriptor, random)
    else:
        values.extend([_value(descriptor, random)] * random.choice((1, 1, 30)))


def _value(descriptor: Any, random: Random) -> Any:
    kind = descriptor.cpp_type
    if kind == descriptor.CPPTYPE_STRING:
        encoded = text(random).encode("utf-8", "replace")
        return encoded if descriptor.type == descriptor.TYPE_BYTES else encoded.decode()
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
