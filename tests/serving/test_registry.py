"""Models of archives with code of their own, in the registry: their queue, their batches, their removal."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from app.backend.registrations import Registration
from app.errors import ModelConflict, ModelFormatError, ModelNotFound, QueueFull, UnregisterTimeout
from app.serving.custom_model import CustomModel, HandlerAnswer
from app.serving.registry import Registry
from app.settings import Settings
from app.telemetry import metrics
from tests.handlers.archives import DEADLINE, archive, request, wait_for_end
from tests.helpers import wait_until

SAYS_HOW_MANY = """
    import os

    def handle(data, context):
        if data is not None:
            return [f"{len(data)} {os.getpid()} VERSION" for _ in data]
"""
WAITS = """
    def handle(data, context):
        if data is not None:
            open("begun", "w").close()
            open("gate").read()
            return ["done"] * len(data)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    return Settings(models_dir=tmp_path / "models", instance_dir=tmp_path / "instance", job_queue_size=1)


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with started(settings) as registry:
        yield registry


@contextmanager
def started(settings: Settings) -> Iterator[Registry]:
    registry = Registry(settings)
    registry.start()
    try:
        yield registry
    finally:
        registry.close()


def make_registration(folder: Path, code: str, **options: object) -> Registration:
    manifest = json.dumps({"model": {"modelName": "own", "handler": "service:handle"}})
    archive(folder, {"service.py": code, "MAR-INF/MANIFEST.json": manifest})
    return dataclasses.replace(
        Registration("own", folder.name, str(folder), min_workers=1, max_workers=1),
        **options,  # type: ignore[arg-type]
    )


def ask(registry: Registry) -> HandlerAnswer:
    with registry.acquire("own") as model:
        assert isinstance(model, CustomModel)
        return model.answer(request())


def answer_words(registry: Registry) -> list[str]:
    return ask(registry).body.decode().split()


def in_flight(name: str) -> float:
    """Return how many requests the model has admitted, by the metrics."""
    return metrics.REGISTRY.get_sample_value("dimple_requests_in_flight", {"model": name}) or 0.0


def test_simultaneous_requests_reach_the_handler_as_one_batch(registry: Registry, tmp_path: Path) -> None:
    registry.register(
        make_registration(tmp_path / "own", SAYS_HOW_MANY, batch_size=3, max_batch_delay=int(DEADLINE * 1000))
    )

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: answer_words(registry)[0], range(3)))

    assert answers == ["3", "3", "3"]


def test_a_request_beyond_the_queue_limit_is_refused_at_once(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    registry.register(make_registration(folder, WAITS))
    os.mkfifo(folder / "gate")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, registry)
        second = pool.submit(ask, registry)
        wait_until(lambda: (folder / "begun").exists() and in_flight("own") == 2)

        with pytest.raises(QueueFull, match="No worker is available to serve request for model: own"):
            ask(registry)

        for answer in (first, second):
            with (folder / "gate").open("w"):
                pass  # every reader gets to the end
            assert answer.result(DEADLINE).body == b"done"


def test_replacing_a_model_leaves_no_gap_and_no_process(registry: Registry, tmp_path: Path) -> None:
    registry.register(make_registration(tmp_path / "old", SAYS_HOW_MANY.replace("VERSION", "old")))
    _, pid, version = answer_words(registry)
    assert version == "old"
    gaps, stop = [], threading.Event()

    def ask_all_the_time() -> None:
        while not stop.is_set():
            answer = ask(registry)
            if answer.status != 200:
                gaps.append(answer)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_all_the_time)
        new = make_registration(tmp_path / "new", SAYS_HOW_MANY.replace("VERSION", "new"))
        with pytest.raises(ModelConflict):
            registry.register(new)
        registry.register(new, replacing=True)
        assert wait_for_end(int(pid))
        stop.set()
        asking.result(DEADLINE)

    assert not gaps
    assert answer_words(registry)[2] == "new"


def test_a_model_that_cannot_be_loaded_replaces_no_other(registry: Registry, tmp_path: Path) -> None:
    registry.register(make_registration(tmp_path / "old", SAYS_HOW_MANY.replace("VERSION", "old")))
    broken = make_registration(tmp_path / "new", SAYS_HOW_MANY)
    (tmp_path / "new" / "service.py").unlink()

    with pytest.raises(ModelFormatError, match=r"service\.py"):
        registry.register(broken, replacing=True)

    assert answer_words(registry)[2] == "old"


def test_a_model_that_still_computes_after_the_timeout_stays_registered(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    impatient = dataclasses.replace(settings, unregister_timeout=0)
    with started(impatient) as registry, ThreadPoolExecutor(1) as pool:
        registry.register(make_registration(folder, WAITS))
        os.mkfifo(folder / "gate")
        lost = pool.submit(ask, registry)
        wait_until((folder / "begun").exists)

        with pytest.raises(UnregisterTimeout, match="Timed out while cleaning resources: own"):
            registry.unregister("own")

        assert lost.result(DEADLINE).error == ("InternalServerException", "Worker died.")
        again = pool.submit(ask, registry)
        with (folder / "gate").open("w"):
            pass
        assert again.result(DEADLINE).body == b"done"


@pytest.mark.parametrize("then", ["replaced", "scaled", "unregistered"])
def test_scaling_stops_waiting_for_workers_that_are_not_needed_any_more(
    registry: Registry, tmp_path: Path, then: str
) -> None:
    waits_at_a_gate = 'import os\nif os.path.exists("gate"):\n    open("gate").read()\n' + dedent(SAYS_HOW_MANY)
    registry.register(make_registration(tmp_path / "own", waits_at_a_gate))
    os.mkfifo(tmp_path / "own" / "gate")
    with ThreadPoolExecutor(1) as pool:
        scaling = pool.submit(registry.scale, "own", 2, 2, DEADLINE)
        wait_until(lambda: registry.entry("own").registration.min_workers == 2)
        match then:
            case "replaced":
                registry.register(make_registration(tmp_path / "new", SAYS_HOW_MANY), replacing=True)
            case "scaled":
                registry.scale("own", 1, 1, 0)
            case "unregistered":
                registry.unregister("own")
        if then == "unregistered":
            with pytest.raises(ModelNotFound):
                scaling.result(DEADLINE)
        else:
            scaling.result(DEADLINE)
