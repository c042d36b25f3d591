"""A disk that is full."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.reliability.disk import CACHE, INSTANCE, UPLOADS, on_small_disks, why_not
from bench.reliability.fault import Fault, suffer
from bench.reliability.served import Served, running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if reason := why_not():
        pytest.skip(reason)
    with running(on_small_disks(tmp_path_factory.mktemp("disks"))) as served:
        yield served


@pytest.mark.parametrize("fault", [UPLOADS, INSTANCE, CACHE], ids=lambda fault: fault.name)
def test_a_full_disk_fails_only_requests_that_store_something(served: Served, fault: Fault) -> None:
    row = suffer(fault, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)
    assert "Traceback" not in served.log_text()
