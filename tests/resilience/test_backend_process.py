"""The backend process: killed, left without a worker, without a master."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from bench.reliability.books import heavy
from bench.reliability.fault import suffer
from bench.reliability.models import HEAVY, picture
from bench.reliability.processes import ENGINE, RELOAD
from bench.reliability.served import Served, make, running
from tests.conftest import CACHE

PREDICT = f"/predictions/{HEAVY}"


def test_a_killed_engine_process_loses_no_request_and_changes_no_result(served: Served) -> None:
    before = served.ask("POST", PREDICT, picture("blue"))
    row = suffer(ENGINE, served)
    assert row.samples == ()
    assert (row.lost, row.refused, row.cut, row.unreached) == (0, 0, 0, 0)
    assert served.ask("POST", PREDICT, picture("blue"))[:2] == before[:2]


def test_a_killed_worker_releases_its_networks(served: Served) -> None:
    (engine,) = served.engines()
    worker, *_ = served.workers()
    files = len(os.listdir(f"/proc/{engine}/fd"))
    os.kill(worker, signal.SIGKILL)
    served.wait(lambda: worker not in served.workers() and served.is_whole())
    served.wait(lambda: len(os.listdir(f"/proc/{engine}/fd")) <= files)
    assert served.engines() == [engine]


def test_a_reload_replaces_the_engine_process_and_loses_no_request(served: Served) -> None:
    served.wait(lambda: b"dimple_workers 2.0" in served.ask("GET", "/metrics", management=True)[1])  # all has loaded
    before = served.engines()
    row = suffer(replace(RELOAD, loaded=heavy), served)
    assert row.samples == ()
    assert (row.lost, row.refused, row.cut, row.unreached) == (0, 0, 0, 0)
    served.wait(lambda: len(served.engines()) == 1 and served.engines() != before)


def test_the_memory_of_the_engine_process_is_a_metric(served: Served) -> None:
    (engine,) = served.engines()
    _, body, _ = served.ask("GET", "/metrics", management=True)
    assert f'dimple_process_resident_memory_bytes{{kind="engine",model="",pid="{engine}"}}' in body.decode()


@pytest.mark.slow  # test_a_killed_master_leaves_no_process_… looks for all processes
def test_an_engine_process_does_not_outlive_its_master(place: Path) -> None:
    served = make(place, CACHE, (HEAVY,), default_model=HEAVY)
    with running(served):
        (engine,) = served.engines()
        assert served.ask("POST", PREDICT, picture("red"))[0] == 200
        os.kill(served.master, signal.SIGKILL)
        served.wait(lambda: not Path(f"/proc/{engine}/exe").exists(), 60)


@pytest.mark.parametrize(
    "setting",
    [
        {"shared_engine": "false"},
        pytest.param({"workers": 1}, marks=pytest.mark.slow),
        pytest.param({"engine": "mxnet"}, marks=pytest.mark.slow),
    ],
)
def test_there_is_one_backend_process_for_every_engine(place: Path, setting: dict[str, object]) -> None:
    with running(make(place, CACHE, **setting)) as served:
        assert len(served.engines()) == 1
        assert served.ask("GET", "/readyz")[0] == 200
