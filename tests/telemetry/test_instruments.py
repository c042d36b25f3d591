"""The metrics of the queue before a model."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence

from app.backend.batching import BatchQueue, QueueConfig
from app.settings import ROOT
from app.telemetry import metrics
from tests.helpers import SECONDS, wait_until


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_waiting_requests_are_counted_while_they_wait() -> None:
    go = threading.Event()

    def compute(items: Sequence[int]) -> list[int]:
        go.wait(SECONDS)
        return list(items)

    queue, model = BatchQueue("measured-queue", compute, QueueConfig()), "measured-queue"
    threads = [threading.Thread(target=queue.submit, args=(1,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: value("dimple_queue_depth", model=model) == 2)
    go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert value("dimple_queue_depth", model=model) == 0
    assert (value("dimple_batch_size_count", model=model), value("dimple_batch_size_sum", model=model)) == (3, 3)


def test_a_batch_is_counted_once_with_its_size() -> None:
    queue = BatchQueue("measured-batch", list, QueueConfig(batch_size=3, max_delay=SECONDS))
    threads = [threading.Thread(target=queue.submit, args=(1,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert value("dimple_batch_size_count", model="measured-batch") == 1
    assert value("dimple_batch_size_bucket", model="measured-batch", le="2.0") == 0
    assert value("dimple_batch_size_bucket", model="measured-batch", le="4.0") == 1


def test_the_first_256_models_have_own_series_and_all_others_share_one() -> None:
    code = (
        "from app.telemetry import metrics\n"
        "for number in range(300): metrics.refused(f'name-{number}')\n"
        "for name in ('name-255', 'name-256', 'other'):\n"
        "    print(metrics.REGISTRY.get_sample_value('dimple_queue_full_total', {'model': name}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", "None", "44.0"]
