"""``--gpu`` of MXNet Model Server 0.4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.launch.model_server import Flags, plan


@pytest.mark.parametrize(
    ("gpu", "seen", "device"),
    [(2, None, "2"), (1, "4,5", "5"), (1, "GPU-aa, GPU-bb", "GPU-bb"), (3, "4,5", "3")],
)
def test_the_one_gpu_that_is_named_is_the_only_one_that_handlers_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: int, seen: str | None, device: str
) -> None:
    monkeypatch.chdir(tmp_path)
    environ: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": seen} if seen else {}
    told = plan(Flags(gpu=gpu), environ, tmp_path / "instance")
    assert (told.launch.environ["DIMPLE_NUMBER_OF_GPU"], told.launch.environ["CUDA_VISIBLE_DEVICES"]) == ("1", device)
    assert [warning for warning in told.warnings if "--gpu" in warning]


def test_without_the_flag_nothing_is_said_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = plan(Flags(), {}, tmp_path / "instance")
    assert not {"DIMPLE_NUMBER_OF_GPU", "CUDA_VISIBLE_DEVICES"} & set(told.launch.environ)
