"""Trainings in the background, by the real command: complete or not at all."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from app.errors import BadInput
from app.serving.teaching_projects import Project, Projects
from app.serving.training_job import TrainingJob
from app.settings import PictureLimits, Settings
from app.zoo.imagenet import ensure_imagenet
from tests.conftest import CACHE
from tests.helpers import wait_until
from tests.pictures import encode
from tests.training.transfer.shapes import draw

SECONDS = 300


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    work = tmp_path_factory.mktemp("training")
    ensure_imagenet(work / "models")
    return Settings(
        models_dir=work / "models", instance_dir=work / "instance", uploads_dir=work / "uploads", cache_dir=CACHE
    )


@pytest.fixture
def projects(settings: Settings) -> Projects:
    return Projects(settings.instance_dir / "teach")


@pytest.fixture
def project(projects: Projects) -> Iterator[Project]:
    made = projects.create("shapes", ["discs", "stripes"])
    for label in ("discs", "stripes"):
        for number in range(6):
            made.add(label, encode(draw(label, number), "PNG"), PictureLimits())
    yield made
    projects.delete(made)


def files(project: Project) -> set[str]:
    """Return the files of a project's folder other than the pictures."""
    return {path.name for path in project.folder.iterdir()} - {"pictures", "small", "project.json"}


def trainings(project: Project) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(project.pictures_dir) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_too_few_pictures_are_refused_with_their_class(settings: Settings, projects: Projects) -> None:
    project = projects.create("few", ["discs"])
    job = TrainingJob(project, settings)
    with pytest.raises(BadInput, match="two classes"):
        job.start(projects)
    project.add_class("stripes")
    with pytest.raises(BadInput, match=r"discs \(0\), stripes \(0\)"):
        job.start(projects)
    assert files(project) == set()


def test_a_cancelled_training_leaves_nothing(settings: Settings, projects: Projects, project: Project) -> None:
    job = TrainingJob(project, settings)
    job.start(projects)
    assert job.state().state == "running"
    other = projects.create("others", ["a", "b"])
    for label in ("a", "b"):
        for number in range(5):
            other.add(label, encode(draw("noise", number), "PNG"), PictureLimits())
    with pytest.raises(BadInput, match="shapes is being trained"):
        TrainingJob(other, settings).start(projects)
    wait_until(lambda: job.state().total, 0.05, SECONDS)  # it computes features
    job.cancel()
    assert trainings(project) == []
    assert files(project) == set()
    assert job.state().problem == "The training was cancelled."
    assert job.result() is None
    projects.delete(other)


def test_a_killed_training_leaves_only_the_reason(settings: Settings, projects: Projects, project: Project) -> None:
    job = TrainingJob(project, settings)
    job.start(projects)
    (process,) = trainings(project)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: job.state().state == "failed", 0.05, SECONDS)
    assert job.state().problem.startswith("The training ended before it was done")
    assert files(project) == set()
    assert not (settings.models_dir / "shapes").exists()


@pytest.mark.slow
def test_a_result_is_served_after_promotion_and_compared_with_the_next(
    settings: Settings, projects: Projects, project: Project
) -> None:
    job = TrainingJob(project, settings)
    job.start(projects)
    wait_until(lambda: job.state().state != "running", 0.1, SECONDS)
    result = job.result()
    assert result is not None, job.state()
    assert result.metrics["n"] == 12
    assert len(result.predictions["pictures"]) == 12
    assert result.predictions["earlier"] is None
    assert files(project) == {"result"}
    assert not (settings.models_dir / "shapes").exists()
    assert job.promote() == settings.models_dir / "shapes"
    assert (settings.models_dir / "shapes" / "shapes-0000.params").is_file()

    for number in range(6, 8):
        project.add("discs", encode(draw("discs", number), "PNG"), PictureLimits())
    served = (settings.models_dir / "shapes" / "shapes-0000.params").read_bytes()
    job.start(projects)
    wait_until(lambda: job.state().state != "running", 0.1, SECONDS)
    again = job.result()
    assert again is not None
    assert not again.used
    assert again.predictions["earlier"]["n"] == 14  # both models on all pictures, each held out from both
    assert (settings.models_dir / "shapes" / "shapes-0000.params").read_bytes() == served
