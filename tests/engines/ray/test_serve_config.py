"""The config for ``serve deploy``, with the models, their files and their numbers of workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from app.cli.main import dimple
from app.engines.ray.serve_config import application_name, config_of, options_of
from app.formats.folder import digest_of
from app.settings import ROOT, Settings, to_environment


def run(*command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", **to_environment(settings)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def cluster(*arguments: str, **settings: object) -> Result:
    """Run a command of ``dimple cluster`` in this process."""
    environ: dict[str, str | None] = {name: None for name in os.environ if name.startswith("DIMPLE_")}
    runner = CliRunner(env=environ | to_environment({"shipped_models": False, **settings}))
    return runner.invoke(dimple, ["cluster", *arguments])


def folder(path: Path, content: bytes) -> Path:
    path.mkdir(parents=True)
    (path / "weights").write_bytes(content)
    return path


def test_equal_minimum_and_maximum_workers_give_a_fixed_number_of_replicas() -> None:
    options = options_of(3, 3)
    assert options["num_replicas"] == 3 and "autoscaling_config" not in options


def test_a_range_of_workers_is_scaled_automatically() -> None:
    options = options_of(1, 4)
    assert (options["autoscaling_config"]["min_replicas"], options["autoscaling_config"]["max_replicas"]) == (1, 4)
    assert "num_replicas" not in options


def test_batch_and_queue_sizes_are_those_of_the_registration() -> None:
    options = options_of(1, 1, batch_size=8, max_batch_delay=50, queue_size=17)
    assert options["user_config"] == {"batch_size": 8, "max_batch_delay": 50}
    assert options["max_queued_requests"] == 17
    assert options["max_ongoing_requests"] == 16  # one batch is computed while the next is collected


def test_the_config_has_an_application_for_each_version_of_the_content(tmp_path: Path) -> None:
    old, new = folder(tmp_path / "old", b"1"), folder(tmp_path / "new", b"2")
    settings = Settings(cluster="10.0.0.2:8010", cluster_store=str(tmp_path / "store"), engine="ray")
    document: dict[str, Any] = yaml.safe_load(
        config_of([("net", old, options_of(2, 2)), ("net", new, options_of(1, 1)), ("net", new, {})], settings)
    )
    assert document["proxy_location"] == "EveryNode"
    assert document["http_options"] == {"host": "0.0.0.0", "port": 8010}
    first, second = document["applications"]
    assert first["name"] == f"net-{digest_of(old)[:16]}" and first["route_prefix"] == f"/{first['name']}"
    assert first["args"] == {
        "name": "net",
        "digest": digest_of(old),
        "store": str(tmp_path / "store"),
        "engine": "auto",
    }
    assert first["deployments"] == [{"name": "model", **options_of(2, 2)}]
    assert second["args"]["digest"] == digest_of(new)
    assert {path.name for path in (tmp_path / "store").iterdir()} == {f"{digest_of(item)}.zip" for item in (old, new)}


def test_a_model_name_is_converted_to_a_valid_route() -> None:
    assert application_name("my net/{x}", "0123456789abcdef" * 4) == "my_net__x_-0123456789abcdef"


def test_the_command_writes_the_models_of_the_server_and_a_new_version(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models" / "smile", models / "smile")
    new = tmp_path / "new"
    shutil.copytree(ROOT / "models" / "smile", new)
    (new / "synset.txt").write_text("no\nyes\n")
    archive = Path(shutil.make_archive(str(tmp_path / "new"), "zip", new))
    paths = {"models_dir": models, "instance_dir": tmp_path / "instance"}
    for location in (new, archive):
        done = cluster("config", "--add", f"smile={location}", **paths)
        assert done.exit_code == 0, done.stderr
        names = [item["name"] for item in yaml.safe_load(done.stdout)["applications"]]
        assert names == [f"smile-{digest_of(item)[:16]}" for item in (models / "smile", new)]
    assert len(list((tmp_path / "instance" / "cluster" / "store").glob("*.zip"))) == 2


@pytest.mark.parametrize("item", ["smile", "=x", "smile=/nowhere"])
def test_a_missing_new_version_is_refused(item: str, tmp_path: Path) -> None:
    done = cluster("config", "--add", item, instance_dir=tmp_path, models_dir=tmp_path)
    assert done.exit_code == 2 and "NAME=PATH" in done.stderr and "Traceback" not in done.stderr


def test_status_without_a_cluster_names_the_setting(tmp_path: Path) -> None:
    done = cluster("status", instance_dir=tmp_path, models_dir=tmp_path)
    assert done.exit_code == 1 and "DIMPLE_CLUSTER" in done.stderr and "Traceback" not in done.stderr


def test_a_server_refuses_the_address_of_the_head_at_startup(tmp_path: Path) -> None:
    done = run("-m", "gunicorn", "--check-config", instance_dir=tmp_path, cluster="10.0.0.1:6379")
    assert done.returncode != 0 and "DIMPLE_CLUSTER" in done.stderr and "Traceback" not in done.stderr


def test_a_server_and_its_commands_import_neither_ray_nor_the_replica() -> None:
    modules = "app.engines.ray.engine, app.engines.ray.serve_config, app.cli.cluster, app.serving.loader"
    names = "'ray', 'boto3', 'app.engines.ray.replica'"
    done = run("-c", f"import sys, {modules}; print([name for name in ({names}) if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own imports
@pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed")
def test_ray_serve_reads_the_config(tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    model = folder(tmp_path / "net", b"1")
    settings = Settings(cluster_store=str(tmp_path / "store"))
    text = config_of([("net", model, options_of(1, 4, 8, 50))], settings)
    application = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications[0]
    assert application.route_prefix == f"/{application_name('net', digest_of(model))}"
