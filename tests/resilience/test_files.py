"""Model files that are removed, changed or truncated while they are served; and a clock that jumps."""

from __future__ import annotations

from pathlib import Path

from bench.reliability.clock import JUMP, with_own_clock
from bench.reliability.fault import suffer
from bench.reliability.files import HARMED
from bench.reliability.served import Served, running
from tests.conftest import CACHE


def test_a_model_answers_without_its_files_until_the_next_start(served: Served) -> None:
    row = suffer(HARMED, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)
    assert "Traceback" not in served.log_text()


def test_a_jump_of_the_clock_fails_no_request(place: Path) -> None:
    with running(with_own_clock(place, CACHE, workers=1)) as served:
        row = suffer(JUMP, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)
