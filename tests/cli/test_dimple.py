"""``bin/dimple``: its help, its groups, and what it does not import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from app.cli.main import COMMANDS, LazyGroup, dimple, models_cli
from app.settings import ROOT
from tests.test_imports import HEAVY

PROGRAM = ROOT / "bin" / "dimple"
LONGEST_SUMMARY = 45


def commands(group: click.Group, path: str = "dimple") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


EVERY = dict(commands(dimple))


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("DIMPLE_")}
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, env=rest | environ, capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_the_newest_of_the_changelog() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and run("--version").stdout == f"dimple {newest[1]}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--help"]])
def test_help_imports_neither_the_commands_nor_the_application(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from app.cli.main import dimple\n"
        f"try: dimple.main({arguments!r}, 'dimple')\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('numpy', 'PIL')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "Usage: dimple" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_command_loads_no_model(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from app.cli.main import dimple\n"
        "try: dimple.main(['token', 'list'], 'dimple')\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY | {'numpy', 'app.serving'}!r} & set(sys.modules)))"
    )
    environ = os.environ | {"DIMPLE_INSTANCE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["There are no tokens.", "[]"]


def test_flask_without_an_application_loads_no_model_either(tmp_path: Path) -> None:
    environ = os.environ | {"DIMPLE_INSTANCE_DIR": str(tmp_path), "DIMPLE_LOG_LEVEL": "info"}
    command = [sys.executable, "-m", "flask", "token", "list"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "There are no tokens.\n")
    assert "loaded" not in done.stderr


@pytest.mark.parametrize("group, table", [(dimple, COMMANDS), (models_cli, models_cli.commands)])
def test_the_one_line_help_is_that_of_the_command(group: LazyGroup, table: dict[str, object]) -> None:
    short_helps = {name: group.commands.short_help(name) for name in table}
    assert short_helps == {name: group.commands[name].get_short_help_str(200).rstrip(".") for name in table}


@pytest.mark.parametrize("path", EVERY)
def test_every_command_and_option_has_help(path: str) -> None:
    command = EVERY[path]
    summary = command.get_short_help_str(200).rstrip(".")
    assert 0 < len(summary) <= LONGEST_SUMMARY
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"
            assert parameter.help[0].isupper() or " " in parameter.help


def test_the_expected_commands_exist() -> None:
    expected = {"serve", "status", "stop", "reload", "predict", "models", "token"}
    assert expected <= set(COMMANDS)
    verbs = ["list", "info", "pull", "import", "train", "evaluate", "quantize", "export", "register", "remove"]
    assert set(verbs) <= set(models_cli.commands)


def test_a_wrong_command_gets_a_suggestion() -> None:
    done = CliRunner().invoke(dimple, ["serv"])
    assert done.exit_code == 2
    assert "Did you mean 'serve'?" in done.stderr


def test_an_invalid_setting_is_reported_in_one_line() -> None:
    done = run("token", "list", DIMPLE_PROT="9000")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "did you mean DIMPLE_PORT?" in done.stderr


def test_the_shell_completes_commands_and_model_names(tmp_path: Path) -> None:
    for name in ("smile", "small", "dog"):
        (tmp_path / name).mkdir()

    def completed(words: str, number: int) -> set[str]:
        environ = {"_DIMPLE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        done = run(DIMPLE_MODELS_DIR=str(tmp_path), **environ)
        return set(done.stdout.split())

    assert completed("dimple st", 1) == {"plain,status", "plain,stop"}
    assert completed("dimple models info sm", 3) == {"plain,smile", "plain,small"}
