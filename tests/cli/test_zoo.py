"""``dimple models available`` and ``dimple models pull``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app.cli.zoo import available, pull
from tests.cli.test_predict import make_app
from tests.formats.archive.archives import manifest, put, read_tree, zipped

OWN = """
[mine]
kind = archive
file = shade.mar
bases = {place}
licence = mine alone
parameters = 1234
top1 = 87.5
input = cifar10
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with an archive that the user's own catalogue names."""
    return tmp_path / "place"


@pytest.fixture
def app(tmp_path: Path, place: Path) -> Flask:
    app = make_app(tmp_path / "app")
    settings = app.extensions["dimple"].settings
    shade = put(tmp_path / "shade", {"MAR-INF/MANIFEST.json": manifest(modelName="shade", handler="a:b")})
    shutil.copytree(settings.models_dir / "shade", shade, dirs_exist_ok=True)
    place.mkdir()
    zipped(place / "shade.mar", read_tree(shade))
    settings.instance_dir.mkdir(exist_ok=True)
    (settings.instance_dir / "catalogue.ini").write_text(OWN.format(place=place))
    return app


def run(app: Flask, command: object, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(command, list(arguments))  # type: ignore[arg-type]


def models(app: Flask) -> Path:
    folder: Path = app.extensions["dimple"].settings.models_dir
    return folder


def test_the_table_lists_the_catalogue_and_the_local_models(app: Flask) -> None:
    before = run(app, available)
    assert before.exit_code == 0, before.output
    row = next(line for line in before.stdout.splitlines() if line.startswith("mine "))
    assert row.split() == ["mine", "1,234", "87.50", "3x32x32", "mine", "alone"]
    assert run(app, pull, "mine").exit_code == 0
    assert run(app, pull, "mine", "--name", "again").exit_code == 0
    after = run(app, available).stdout.splitlines()
    assert next(line for line in after if line.startswith("mine ")).split("mine alone")[1].strip() == "again, mine"


def test_json_has_every_fact(app: Flask) -> None:
    run(app, pull, "mine", "--name", "other")
    rows = {load["name"]: load for load in json.loads(run(app, available, "--format", "json").stdout)}
    assert rows["mine"]["pulled"] == ["other"]
    assert rows["vgg16"]["pulled"] == []
    assert rows["vgg16"]["checksum"] == "sha1:e660d4569ccb679ec68f1fd3cce07a387252a90a"
    assert rows["vgg16"]["paper_url"] == "https://arxiv.org/abs/1409.1556"


def test_a_pulled_model_is_present_and_the_next_step_is_printed(app: Flask) -> None:
    done = run(app, pull, "mine", "--name", "tint")
    assert done.exit_code == 0, done.output
    assert (models(app) / "tint" / "shade-symbol.json").is_file()
    assert "/predict/tint" in done.stdout and "mine alone" in done.stdout


def test_replacing_an_own_model_requires_force(app: Flask) -> None:
    done = run(app, pull, "mine", "--name", "shade")
    assert done.exit_code == 1
    assert "is there already" in done.stderr and "--force" in done.stderr
    assert run(app, pull, "mine", "--name", "shade", "--force").exit_code == 0
    assert (models(app) / "shade" / "catalogue.json").is_file()


def test_a_name_missing_from_the_catalogue_is_reported_in_one_line(app: Flask) -> None:
    done = run(app, pull, "vgg-17")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1 and "vgg-16" in done.stderr


def test_a_failed_download_is_reported_in_one_line_at_the_end(app: Flask, place: Path) -> None:
    (place / "shade.mar").unlink()
    done = run(app, pull, "mine")
    assert done.exit_code == 1
    assert f"{place} holds no shade.mar" in done.stderr.splitlines()[-1]
    assert not (models(app) / "mine").exists()


def test_a_mistake_in_an_own_catalogue_is_reported_in_one_line(app: Flask) -> None:
    (app.extensions["dimple"].settings.instance_dir / "catalogue.ini").write_text("[x]\nkind = y\n")
    for command, arguments in ((available, ()), (pull, ("vgg16",))):
        done = run(app, command, *arguments)
        assert done.exit_code == 1
        assert "catalogue.ini, line 2, [x] kind='y'" in done.stderr
