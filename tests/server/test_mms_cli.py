from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.errors import LaunchError
from app.server.mms_cli import Flags, load_models, plan_launch, split_models


@pytest.mark.parametrize(
    ("gpu", "seen", "device"),
    [(2, None, "2"), (1, "4,5", "5"), (1, "GPU-aa, GPU-bb", "GPU-bb"), (3, "4,5", "3")],
)
def test_handlers_see_only_the_named_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: int, seen: str | None, device: str
) -> None:
    monkeypatch.chdir(tmp_path)
    environ: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": seen} if seen else {}
    plan = plan_launch(Flags(gpu=gpu), environ, tmp_path / "instance")
    assert (plan.launch.environ["DIMPLE_NUMBER_OF_GPU"], plan.launch.environ["CUDA_VISIBLE_DEVICES"]) == ("1", device)
    assert [warning for warning in plan.warnings if "--gpu" in warning]


def test_no_gpu_settings_are_made_without_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_launch(Flags(), {}, tmp_path / "instance")
    assert not {"DIMPLE_NUMBER_OF_GPU", "CUDA_VISIBLE_DEVICES"} & set(plan.launch.environ)


@pytest.mark.parametrize(
    ("configuration", "models_dir", "load_models", "warning"),
    [
        ("model_store=gone\nload_models=ALL", "gone", "ALL", "The model store {}/gone is not there"),
        ("model_store=gone\nload_models=a.mar", "gone", "a.mar", "The model store {}/gone is not there"),
        ("load_models=all", "models", "", "there is no model_store"),
        ("plugins_path=/opt/plugins", "models", "", "plugins_path=/opt/plugins is not followed"),
        ("vmargs=-Xmx1g -Dio.netty.leakDetection=off", "models", "", "-Dio.netty.leakDetection=off is not followed"),
        ("vmargs=-Dlog4j.configurationFile=gone.xml", "models", "", "the log4j file gone.xml is not there"),
    ],
)
def test_an_unusable_entry_of_a_configuration_only_causes_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configuration: str,
    models_dir: str,
    load_models: str,
    warning: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.properties").write_text(configuration)
    plan = plan_launch(Flags(), {}, tmp_path / "instance")
    assert Path(plan.launch.environ["DIMPLE_MODELS_DIR"]).name == models_dir
    assert plan.launch.environ["DIMPLE_LOAD_MODELS"] == load_models
    (message,) = plan.warnings
    assert warning.format(tmp_path) in message
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("place", ["{}", "file:{}", "file://{}"])
def test_the_log4j_file_of_vmargs_is_used_unless_the_command_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for level in ("error", "debug"):
        (tmp_path / f"{level}.xml").write_text(
            f'<Configuration><Loggers><Root level="{level}"/></Loggers></Configuration>'
        )
    named = place.format(tmp_path / "error.xml")
    (tmp_path / "config.properties").write_text(f"vmargs=-Xmx128m -Dlog4j.configurationFile={named}")
    assert plan_launch(Flags(), {}, tmp_path / "instance").launch.environ["DIMPLE_LOG_LEVEL"] == "error"
    flags = Flags(log_config=str(tmp_path / "debug.xml"))
    assert plan_launch(flags, {}, tmp_path / "instance").launch.environ["DIMPLE_LOG_LEVEL"] == "debug"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.mar").touch()
    (tmp_path / "smileCNN.model").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_is_read_in_any_case_and_an_empty_list_loads_nothing(here: Path) -> None:
    assert load_models(["all"], here / "store") == "ALL"
    assert load_models([], None) == ""
    assert split_models(" a.mar, b=b.mar,") == ["a.mar", "b=b.mar"]


def test_models_of_the_store_keep_relative_paths_and_local_ones_become_absolute(here: Path) -> None:
    models = ["first=a.mar", "smileCNN=smileCNN.model", "missing.mar"]
    assert load_models(models, here / "store") == f"first=a.mar,smileCNN={here}/smileCNN.model,missing.mar"


def test_urls_are_left_unchanged(here: Path) -> None:
    urls = ["https://host/a.mar", "b=http://host/b.mar?x=1", "http://host/c.mar?x=1"]
    assert load_models(urls, None) == ",".join(urls)


def test_a_model_without_a_store_must_be_in_the_current_folder() -> None:
    with pytest.raises(LaunchError, match=r"no model nowhere\.mar"):
        load_models(["x=nowhere.mar"], None)
    with pytest.raises(LaunchError, match="ALL needs a folder of models"):
        load_models(["ALL"], None)
