"""The acts on the cluster while it is under load, and the conditions that must hold afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from app.engines.ray.serve_config import application_name
from app.formats.folder import digest_of
from bench.cluster.load import Load
from bench.cluster.models import BAD, NEW, ROLLED, Answers, archive
from bench.cluster.rig import Failed, Front, Rig, wait_for

SETTLE_SECONDS = 4.0
BACK_SECONDS = 120.0


@dataclass
class Scene:
    """The rig, its load, and the right answers of the models without a cluster."""

    rig: Rig
    load: Load
    right: Answers
    others: Path

    def replicas(self, application: str) -> list[psutil.Process]:
        """Return the processes that compute a model, or one of its versions."""
        mark = f"ray::ServeReplica:{application}-"
        return [process for process in self.rig.processes() if mark in " ".join(_command(process))]

    def whole(self) -> bool:
        """Return whether each model has its two replicas."""
        return all(len(self.replicas(name)) >= 2 for name in self.right)

    def wait_back(self, what: str, condition: Callable[[], bool]) -> tuple[float, float]:
        """Wait until a condition holds.

        :returns: the seconds that took, and those of them in which a front was not ready.
        """
        began, away = time.monotonic(), 0.0
        while not condition():
            before = time.monotonic()
            if before - began > BACK_SECONDS:
                raise Failed(f"{what}: not within {BACK_SECONDS:.0f} s")
            time.sleep(0.2)
            if not all(front.ready(len(self.right)) for front in self.rig.fronts):
                away += time.monotonic() - before
        return time.monotonic() - began, away


Act = Callable[[Scene], str]
"""Does something, and says what was seen."""


def steady(scene: Scene) -> str:
    """Do nothing."""
    time.sleep(3 * SETTLE_SECONDS)
    return "two fronts, a head, two nodes"


def kill_replica(scene: Scene) -> str:
    """Kill one of two replicas."""
    before = scene.replicas("dogcat")
    before[0].kill()
    seconds, away = scene.wait_back(
        "the replica is back", lambda: len(set(scene.replicas("dogcat")) - {before[0]}) >= 2
    )
    time.sleep(SETTLE_SECONDS)
    return f"another runs after {seconds:.0f} s; fronts are not ready for {away:.0f} s"


def kill_node(scene: Scene) -> str:
    """Kill the whole Ray node of a machine."""
    node = scene.rig.nodes[1]
    node.kill()
    seconds, away = scene.wait_back("the replicas are back", scene.whole)
    wait_for("the node is back", node.has_started, BACK_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return f"its replicas run elsewhere after {seconds:.0f} s; fronts are not ready for {away:.0f} s"


def kill_head(scene: Scene) -> str:
    """Kill the head with everything on it."""
    scene.rig.head.kill()
    seconds, away = scene.wait_back(
        "the head is back", lambda: scene.rig.head.has_started() and _all_run(scene) and scene.whole()
    )
    time.sleep(SETTLE_SECONDS)
    return f"it answers again after {seconds:.0f} s; fronts are not ready for {away:.0f} s"


def roll_bad(scene: Scene) -> str:
    """Deploy a new version that fails its self-test, and register it in place of the model."""
    scene.rig.deploy("--add", f"{ROLLED}={scene.others / BAD}")
    bad = application_name(ROLLED, digest_of(scene.others / BAD))
    wait_for("the new version fails", lambda: "FAILED" in scene.rig.status().get(bad, ""), BACK_SECONDS)
    if "self-test" not in scene.rig.status()[bad]:
        raise Failed(f"serve status gives no reason: {scene.rig.status()[bad]}")
    status, body = _register(scene, scene.rig.fronts[0], BAD)
    if status != 503:
        raise Failed(f"a network that fails its self-test was taken: {status} {body}")
    scene.rig.deploy()
    time.sleep(SETTLE_SECONDS)
    return "serve status gives the reason, registering it is answered 503; the old version goes on"


def roll(scene: Scene) -> str:
    """Deploy a new version beside the old one, register it at one front after the other, and remove the old one."""
    old = application_name(ROLLED, digest_of(scene.rig.fronts[0].folder / "models" / ROLLED))
    scene.rig.deploy("--add", f"{ROLLED}={scene.others / NEW}")
    new = application_name(ROLLED, digest_of(scene.others / NEW))
    wait_for("the new version runs", lambda: scene.rig.status().get(new, "").startswith("RUNNING"), BACK_SECONDS)
    for front in scene.rig.fronts:
        status, body = _register(scene, front, NEW)
        if status != 200:
            raise Failed(f"the new archive was not taken: {status} {body}")
    scene.rig.deploy()
    seconds = wait_for("the old one is gone", lambda: not _runs(scene, old), BACK_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return f"every answer was the old network's or the new one's; the old deployment is gone after {seconds:.0f} s"


def scale(scene: Scene) -> str:
    """Scale to 1, 4 and 1 replicas."""
    took = []
    for count in (1, 4, 1):
        _scale(scene, count)
        took.append(wait_for(f"{count} replicas", lambda: len(scene.replicas("dogcat")) == count, BACK_SECONDS))  # noqa: B023
        time.sleep(SETTLE_SECONDS)
    return "to 1, 4 and 1 within " + ", ".join(f"{seconds:.0f}" for seconds in took) + " s of serve deploy"


def grow(scene: Scene, nodes: int) -> tuple[object, ...]:
    """Let the given number of nodes take part, each with a replica of one model.

    :returns: nodes, replicas, nodes that compute, seconds until all answer; requests sent, answered, refused and lost.
    """
    scene.rig.join_more(nodes)
    scene.load.phase = f"{nodes} nodes"
    began = time.monotonic()
    _scale(scene, nodes)
    wait_for(f"{nodes} replicas", lambda: len(scene.replicas("dogcat")) == nodes, 2 * BACK_SECONDS)
    wait_for("all applications run", lambda: _all_run(scene), BACK_SECONDS)
    seconds = time.monotonic() - began
    time.sleep(2 * SETTLE_SECONDS)
    replicas = set(scene.replicas("dogcat"))
    hosts = [node for node in scene.rig.nodes if replicas & set(node.processes())]
    scene.rig.measure()
    tally = scene.load.count()
    return nodes, nodes, len(hosts), round(seconds), tally.sent, tally.answered, tally.refused, tally.lost


ACTS: tuple[tuple[str, Act], ...] = (
    ("steady", steady),
    ("a replica is killed", kill_replica),
    ("a node is killed", kill_node),
    ("the head is killed", kill_head),
    ("a bad archive is rolled out", roll_bad),
    ("a model is rolled", roll),
    ("1 → 4 → 1 replicas", scale),
)


def _scale(scene: Scene, count: int) -> None:
    status, body = scene.rig.fronts[0].ask("PUT", f"/models/dogcat?min_worker={count}&max_worker={count}", True)
    if status not in (200, 202):
        raise Failed(f"not scaled to {count}: {status} {body}")
    scene.rig.deploy()


def _all_run(scene: Scene) -> bool:
    found = scene.rig.status()
    return bool(found) and all(status.startswith("RUNNING") for status in found.values())


def _runs(scene: Scene, application: str) -> bool:
    return application in scene.rig.status() or bool(
        [process for process in scene.rig.processes() if application in " ".join(_command(process))]
    )


def _register(scene: Scene, front: Front, other: str) -> tuple[int, str]:
    target = front.folder / "models" / f"{other}.mar"
    archive(scene.others / other, target)
    query = f"url={quote(target.name)}&model_name={ROLLED}&initial_workers=2&synchronous=true&replace=true"
    return front.ask("POST", f"/models?{query}", management=True, seconds=180)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
