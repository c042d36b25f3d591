"""The cost of a request: memory in proportion to its body, for every kind of body (longer ones: ``make attack``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from app.settings import ROOT
from bench.perf.processes import family
from bench.reliability.attacks import ALL, MIB, Attack, cost, settled
from bench.reliability.served import Served, make, running
from tests.conftest import CACHE

SIZE = 16 * MIB


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, float]]:
    """Yield a server of one process, and the MiB that it holds when it has answered once."""
    folder = tmp_path_factory.mktemp("attacked")
    with running(
        make(folder, CACHE, ("smile", "dogcat"), workers=1, default_model="smile", gzip_requests="true")
    ) as one:
        for name in ("smile", "dogcat"):
            one.ask("POST", f"/predict/{name}", (ROOT / "static" / "astronaut.jpg").read_bytes())
        yield one, settled([psutil.Process(number) for number in family(one.pid)])


def case(attack: Attack) -> Any:
    """Mark an attack that another path also gets as slow: the same parsers read the forms and pictures of all paths."""
    again = any(kind in attack.name for kind in ("form", "urlencoded", "TIFF", "PNG"))
    again = again and attack.name.endswith((", /predictions/smile", ", /file/"))
    return pytest.param(attack, id=attack.name, marks=[pytest.mark.slow] if again else [])


@pytest.mark.parametrize("attack", [case(attack) for attack in ALL])
def test_memory_grows_in_proportion_to_the_body_and_no_attack_is_a_server_error(
    attacked: tuple[Served, float], attack: Attack
) -> None:
    served, before = attacked
    found = cost(served, attack, SIZE, before)
    if found.memory > attack.free + attack.times * found.sent:
        found = cost(served, attack, SIZE)  # some of the request before may not have been given back yet
    assert found.status < 500
    assert found.memory <= attack.free + attack.times * found.sent
