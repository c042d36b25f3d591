"""What is done to the cluster while it is under load, and what must be true afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from bench.cluster.load import Load
from bench.cluster.models import BAD, NEW, ROLLED, Answers, archive
from bench.cluster.rig import Failed, Machine, Rig, wait_for

SETTLE_SECONDS = 4.0
BACK_SECONDS = 120.0


@dataclass
class Scene:
    """The rig, its load, and the right answers of the models without a cluster."""

    rig: Rig
    load: Load
    right: Answers
    others: Path

    def replicas(self, model: str) -> list[psutil.Process]:
        """The processes that compute a model."""
        mark = f"dimple-{model}-"
        return [process for process in self.rig.processes() if mark in " ".join(_command(process))]


Act = Callable[[Scene], str]
"""Does something, and says what was seen."""


def steady(scene: Scene) -> str:
    """Nothing happens."""
    time.sleep(3 * SETTLE_SECONDS)
    return "two fronts, two nodes"


def kill_replica(scene: Scene) -> str:
    """One of two replicas is killed."""
    before = scene.replicas("dogcat")
    before[0].kill()
    seconds = wait_for("the replica is back", lambda: len(scene.replicas("dogcat")) >= 2, BACK_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return f"another runs after {seconds:.0f} s"


def kill_node(scene: Scene) -> str:
    """The second machine loses its whole Ray node, which its front hangs on, too."""
    _kill_node(scene.rig.node)
    gone = wait_for("its front says so", lambda: not scene.rig.node.ready(), BACK_SECONDS)
    back = wait_for("it is back", scene.rig.node.has_node, BACK_SECONDS)
    back += wait_for("its front is ready", lambda: scene.rig.node.ready(3), BACK_SECONDS)
    wait_for("the replicas are back", lambda: all(len(scene.replicas(name)) >= 2 for name in scene.right), BACK_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return f"its own front is not ready after {gone:.0f} s, and again after {back:.0f} s; the other front goes on"


def kill_head(scene: Scene) -> str:
    """The head is killed with everything on it."""
    _kill_node(scene.rig.head)
    gone = wait_for(
        "both fronts say so", lambda: not any(machine.ready() for machine in scene.rig.machines), BACK_SECONDS
    )
    back = wait_for("both are ready", lambda: all(machine.ready(3) for machine in scene.rig.machines), 2 * BACK_SECONDS)
    wait_for("the replicas are back", lambda: all(len(scene.replicas(name)) >= 2 for name in scene.right), BACK_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return f"both fronts are not ready after {gone:.0f} s, and by themselves again after {back:.0f} s"


def roll_bad(scene: Scene) -> str:
    """A new archive that fails its self-test is registered in the model's place."""
    status, body = _register(scene, scene.rig.head, BAD)
    if status == 200 or "self-test" not in body:
        raise Failed(f"a network that fails its self-test was taken: {status} {body}")
    time.sleep(SETTLE_SECONDS)
    return f"answered {status}; the old one goes on"


def roll(scene: Scene) -> str:
    """A new archive is registered in the model's place, at one front after the other."""
    for machine in scene.rig.machines:
        status, body = _register(scene, machine, NEW)
        if status != 200:
            raise Failed(f"the new archive was not taken: {status} {body}")
    wait_for("the old one is gone", lambda: len(_applications(scene, ROLLED)) == 1, BACK_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return "every answer was the old network's or the new one's; the old deployment went"


def scale(scene: Scene) -> str:
    """1, 4 and 1 replicas."""
    took = []
    for count in (1, 4, 1):
        status, body = scene.rig.head.ask("PUT", f"/models/dogcat?min_worker={count}&max_worker={count}", True)
        if status not in (200, 202):
            raise Failed(f"not scaled to {count}: {status} {body}")
        took.append(wait_for(f"{count} replicas", lambda: len(scene.replicas("dogcat")) == count, BACK_SECONDS))  # noqa: B023
        time.sleep(SETTLE_SECONDS)
    return "to 1, 4 and 1 within " + ", ".join(f"{seconds:.0f}" for seconds in took) + " s"


def grow(scene: Scene, nodes: int) -> tuple[object, ...]:
    """Let so many nodes take part, each with a replica of one model.

    :returns: nodes, replicas, nodes that compute, seconds until all answer; requests sent, answered, refused and lost.
    """
    scene.rig.join_more(nodes)
    scene.load.phase = f"{nodes} nodes"
    began = time.monotonic()
    status, body = scene.rig.head.ask("PUT", f"/models/dogcat?min_worker={nodes}&max_worker={nodes}", True)
    if status not in (200, 202):
        raise Failed(f"not scaled to {nodes}: {status} {body}")
    wait_for(f"{nodes} replicas", lambda: len(scene.replicas("dogcat")) == nodes, 2 * BACK_SECONDS)
    seconds = time.monotonic() - began
    time.sleep(2 * SETTLE_SECONDS)
    hosts = {replica.environ().get("DIMPLE_INSTANCE_DIR") for replica in scene.replicas("dogcat")}
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


def _kill_node(machine: Machine) -> None:
    """As if its power was cut: Ray's processes get no word. What watches them stays, as a machine's init would."""
    for process in machine.watch().children(recursive=True):
        process.kill()


def _register(scene: Scene, machine: Machine, other: str) -> tuple[int, str]:
    target = machine.folder / "models" / f"{other}.mar"
    archive(scene.others / other, target)
    query = f"url={quote(target.name)}&model_name={ROLLED}&initial_workers=2&synchronous=true&replace=true"
    return machine.ask("POST", f"/models?{query}", management=True, seconds=180)


def _applications(scene: Scene, model: str) -> set[str]:
    said = scene.rig.head.flask("cluster", "status")
    return set(re.findall(rf"dimple-{model}-\S+", said))


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
