"""Mutations of JSON into other JSON: different values, keys and nesting."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

from fuzz.mutations import blind
from fuzz.mutations.values import json_value, text

DEPTHS = (500, 3_000, 100_000)


def mutate(data: bytes, random: Random) -> bytes:
    """Damage a JSON document, or any bytes if it is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return blind.mutate(data, random)
    if random.random() < 0.1:
        return blind.mutate(data, random)
    if random.random() < 0.01:
        depth = random.choice(DEPTHS)
        opening, closing = random.choice((("[", "]"), ('{"a":', "}"), ('{"config":[', "]}")))
        return (opening * depth + "1" + closing * depth).encode()
    for _ in range(random.choice((1, 1, 2, 4))):
        document = _mutate_document(document, random)
    try:
        return json.dumps(document, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # a number has too many digits
        return data


def _mutate_document(document: Any, random: Random) -> Any:
    """Return a copy with a change in one place."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places:
        return json_value(random)
    container, key = random.choice(places)
    mutation = random.randrange(6)
    if mutation <= 1:
        container[key] = json_value(random)
    elif mutation == 2:
        del container[key]
    elif mutation == 3:
        source, source_key = random.choice(places)
        container[key] = copy.deepcopy(source[source_key])
    elif mutation == 4 and isinstance(container, dict):
        name = random.choice((text(random), random.choice(places)[1]))
        container[str(name)] = container.pop(key)
    elif isinstance(container, list):
        container[key:key] = [copy.deepcopy(container[key])] * random.choice((1, 1, 3, 50))
    else:
        container[key] = [container[key]]
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container of a document with each of its keys or indices."""
    stack = [document]
    while stack:
        container = stack.pop()
        if isinstance(container, dict):
            keys: list[Any] = list(container)
        elif isinstance(container, list):
            keys = list(range(len(container)))
        else:
            continue
        for key in keys:
            yield container, key
            stack.append(container[key])
