"""A real pip, with local wheels and virtual environments of their own."""

from __future__ import annotations

import logging
import subprocess
import zipfile
from pathlib import Path

import pytest

from app.handlers.environment import handler_environment
from app.handlers.requirements import InstallFailed, install, server_packages
from tests.handlers.archives import DEADLINE
from tests.handlers.wheels import make_wheel, sha256


def install_from(wheels: Path, requirement: str, venv: Path, seconds: float = DEADLINE, **options: object) -> None:
    file = venv.parent / f"{venv.name}.txt"
    file.write_text(requirement)
    offline = ["--no-index", "--find-links", str(wheels)]
    install(file, venv, offline, handler_environment(""), seconds, **options)  # type: ignore[arg-type]


def run_in(venv: Path, code: str) -> str:
    command = [str(venv / "bin" / "python"), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_package_is_installed_in_addition_to_those_of_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.handlers")
    make_wheel(tmp_path / "wheels", "1.2")
    install_from(tmp_path / "wheels", "dimple-probe\nnumpy\n", tmp_path / "venv")  # numpy is there already
    code = "import dimple_probe, numpy; print(dimple_probe.VERSION, dimple_probe.__file__, numpy.__file__)"
    version, ours, server_s = run_in(tmp_path / "venv", code).split()
    assert version == "1.2"
    assert Path(ours).is_relative_to(tmp_path / "venv")
    assert not Path(server_s).is_relative_to(tmp_path)
    assert any("Successfully installed dimple-probe-1.2" in record.message for record in caplog.records)


@pytest.mark.slow
def test_another_version_of_a_package_does_not_change_that_of_the_server(tmp_path: Path) -> None:
    server = tmp_path / "server" / "site-packages"
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "wheels", version)
    with zipfile.ZipFile(tmp_path / "wheels" / "dimple_probe-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(server)
    before = sorted(server.rglob("*"))
    below = [str(server), *server_packages()]
    install_from(tmp_path / "wheels", "dimple-probe==2.0", tmp_path / "new", below=below)
    assert run_in(tmp_path / "new", "import dimple_probe; print(dimple_probe.VERSION)") == "2.0"
    assert sorted(path for path in server.rglob("*") if "__pycache__" not in path.parts) == before


def test_hashes_are_verified(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "1.0")
    pinned = f"dimple-probe==1.0 --hash=sha256:{sha256(wheel)}"
    install_from(tmp_path / "wheels", pinned, tmp_path / "right")
    assert run_in(tmp_path / "right", "import dimple_probe; print(dimple_probe.VERSION)") == "1.0"
    wrong = f"dimple-probe==1.0 --hash=sha256:{'0' * 64}"
    with pytest.raises(InstallFailed, match="DO NOT MATCH THE HASHES"):
        install_from(tmp_path / "wheels", wrong, tmp_path / "wrong")


def test_the_last_line_of_pip_is_the_reason(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "1.0")
    with pytest.raises(InstallFailed, match=r"^No matching distribution found for dimple-probe==9$"):
        install_from(tmp_path / "wheels", "dimple-probe==9", tmp_path / "venv")
    with pytest.raises(InstallFailed, match=r"Invalid requirement: '!!'"):
        install_from(tmp_path / "wheels", "!!", tmp_path / "other")


def test_an_installation_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "1.0")
    with pytest.raises(InstallFailed, match="DIMPLE_INSTALL_TIMEOUT"):
        install_from(tmp_path / "wheels", "dimple-probe", tmp_path / "venv", seconds=0.05)
