"""Damage to JSON that leaves it JSON: values, keys and nesting change."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

from fuzz.mutations import blind
from fuzz.mutations.values import json_value, text

DEEP = (500, 3_000, 100_000)


def mutate(data: bytes, random: Random) -> bytes:
    """Change a document; where it is none, any bytes."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return blind.mutate(data, random)
    if random.random() < 0.1:
        return blind.mutate(data, random)
    if random.random() < 0.01:
        depth = random.choice(DEEP)
        opening, closing = random.choice((("[", "]"), ('{"a":', "}"), ('{"config":[', "]}")))
        return (opening * depth + "1" + closing * depth).encode()
    for _ in range(random.choice((1, 1, 2, 4))):
        document = change(document, random)
    try:
        return json.dumps(document, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # a number too long to be written
        return data


def change(document: Any, random: Random) -> Any:
    """Change one place of a document."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places:
        return json_value(random)
    holder, key = random.choice(places)
    how = random.randrange(6)
    if how <= 1:
        holder[key] = json_value(random)
    elif how == 2:
        del holder[key]
    elif how == 3:
        other, from_key = random.choice(places)
        holder[key] = copy.deepcopy(other[from_key])
    elif how == 4 and isinstance(holder, dict):
        name = random.choice((text(random), random.choice(places)[1]))
        holder[str(name)] = holder.pop(key)
    elif isinstance(holder, list):
        holder[key:key] = [copy.deepcopy(holder[key])] * random.choice((1, 1, 3, 50))
    else:
        holder[key] = [holder[key]]
    return document


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """All (holder, key or index) of a document."""
    waiting = [node]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            keys: list[Any] = list(holder)
        elif isinstance(holder, list):
            keys = list(range(len(holder)))
        else:
            continue
        for key in keys:
            yield holder, key
            waiting.append(holder[key])
