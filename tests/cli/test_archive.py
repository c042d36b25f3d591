from __future__ import annotations

import json
import shutil
import textwrap
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import Result
from flask import Flask

from app.cli.archive import archive, inspect, unpack_command, verify
from tests.cli.test_predict import make_app
from tests.formats.archive.archives import LEGACY, manifest, put, read_tree, zipped

STOCK = manifest(modelName="shade", handler="mxnet_vision_service:handle", modelVersion="2.5")


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path / "app")


@pytest.fixture
def shade(tmp_path: Path, app: Flask) -> Path:
    """Return a model folder of one small checkpoint with two classes, outside of the models folder."""
    shutil.copytree(tmp_path / "app" / "models" / "shade", tmp_path / "shade")
    return put(tmp_path / "shade", {"MAR-INF/MANIFEST.json": STOCK})


def run(app: Flask, command: click.Command, *arguments: object) -> Result:
    return app.test_cli_runner().invoke(command, [str(argument) for argument in arguments])


def facts_of(done: Result) -> dict[str, str]:
    """Return the first line of each fact."""
    return {line.split()[0]: line[12:] for line in done.stdout.splitlines() if not line.startswith(" ")}


def outcome(done: Result) -> dict[str, str]:
    lines = [line[9:].partition(":")[0] + " " + line[:9].strip() for line in done.stdout.splitlines()]
    return dict(line.rsplit(" ", 1) for line in lines)  # type: ignore[misc]


def packed(app: Flask, folder: Path, *more: object, handler: str = "mxnet_vision_service:handle") -> Path:
    done = run(
        app, archive, "--model-name", folder.name, "--model-path", folder, "--handler", handler,
        "--export-path", folder.parent, *more,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return Path(done.stdout.strip())


def test_a_folder_is_packed_and_unpacked(app: Flask, shade: Path, tmp_path: Path) -> None:
    made = packed(app, shade)
    assert made == tmp_path / "shade.mar"
    done = run(app, unpack_command, made, "--to", tmp_path / "again")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "again")
    before, after = read_tree(shade), read_tree(tmp_path / "again")
    assert before.pop("MAR-INF/MANIFEST.json") != after.pop("MAR-INF/MANIFEST.json")  # the packer writes its own
    assert before == after


def test_an_archive_is_unpacked_among_the_models(app: Flask, shade: Path, tmp_path: Path) -> None:
    made = packed(app, shade.rename(tmp_path / "dusk"))
    done = run(app, unpack_command, made)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "app" / "models" / "dusk" / "shade-symbol.json").is_file()
    again = run(app, unpack_command, made)
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_a_refusal_is_one_message_with_exit_status_one(app: Flask, shade: Path, tmp_path: Path) -> None:
    packed(app, shade)
    options = ["--model-path", shade, "--handler", "a", "--export-path", tmp_path]
    done = run(app, archive, "--model-name", "shade", *options)
    assert done.exit_code == 1
    assert "already exists" in done.stderr
    assert run(app, archive, "--model-name", "a/b", *options).exit_code == 1
    assert run(app, archive, *options).exit_code == 2
    put(tmp_path, {"bad.mar": "no archive"})
    for command in (unpack_command, inspect, verify):
        done = run(app, command, tmp_path / "bad.mar")
        assert done.exit_code == 1
        assert "bad.mar" in done.stderr and "neither a zip" in done.stderr


def test_inspect_lists_the_contents_of_an_archive(app: Flask, shade: Path) -> None:
    done = run(app, inspect, packed(app, shade))
    assert done.exit_code == 0, done.output
    facts = facts_of(done)
    assert facts["model"] == "shade"
    assert facts["manifest"] == "of Multi Model Server 1.x"
    assert facts["handler"] == "mxnet_vision_service:handle (Multi Model Server's own vision service)"
    assert facts["inputs"] == "data (any, 3, 8, 8)"
    assert facts["outputs"] == "fc (any, 1)"
    assert facts["labels"] == "2: dark; light"
    assert facts["served"] == "by Dimple itself, from shade-0000.params"
    for name, content in read_tree(shade).items():
        if name != "MAR-INF/MANIFEST.json":
            assert f"{len(content):>13,}  {name}" in done.stdout


def test_inspect_of_a_folder_gives_its_version(app: Flask, shade: Path) -> None:
    assert facts_of(run(app, inspect, shade))["version"] == "2.5"


def test_inspect_reports_own_code_without_running_it(app: Flask, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"open({str(trap)!r}, 'w')\ndef handle(data, context): return []\n"
    folder = put(tmp_path / "own", {"service.py": code, "MAR-INF/MANIFEST.json": manifest(handler="service:handle")})
    for command, options in ((inspect, ()), (verify, ("--no-run",))):
        assert run(app, command, folder, *options).exit_code == 0
    assert facts_of(run(app, inspect, folder))["served"] == "by its own code in service.py, in processes of its own"
    assert not trap.exists()


def test_inspect_does_not_check_the_weights_of_an_archive_with_own_code(app: Flask, tmp_path: Path) -> None:
    own = manifest(modelName="own", handler="service:handle")
    files = {"MAR-INF/MANIFEST.json": own, "service.py": "handle = print", "own.onnx": "of another format"}
    assert not {"signature", "inputs"} & facts_of(run(app, inspect, zipped(tmp_path / "own.mar", files))).keys()


def test_inspect_reads_an_old_archive(app: Flask, tmp_path: Path) -> None:
    files = {"MANIFEST.json": json.dumps(LEGACY), "custom_service.py": "class A(B): pass"}
    facts = facts_of(run(app, inspect, zipped(tmp_path / "smile.model", files)))
    assert (facts["model"], facts["version"], facts["engine"]) == ("smileCNN", "snapshot", "MXNet 0.12")
    assert facts["handler"] == "custom_service.py (own code)"


def test_text_of_an_archive_cannot_control_the_terminal(app: Flask, shade: Path) -> None:
    (shade / "synset.txt").write_text("dark\x1b[2J\nlight\u202e\n")
    done = run(app, inspect, shade)
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout
    assert facts_of(done)["labels"] == r"2: dark\x1b[2J; light\u202e"


def test_verify_of_an_intact_model_passes(app: Flask, shade: Path) -> None:
    for path in (shade, packed(app, shade), packed(app, shade, "--archive-format", "tgz")):
        done = run(app, verify, path)
        assert done.exit_code == 0, done.output
        assert set(outcome(done).values()) == {"ok"}
        assert "two pictures were answered twice by openvino, 2 classes" in done.stdout


def test_verify_of_a_model_with_own_code_reports_skipped_checks(app: Flask, shade: Path) -> None:
    put(
        shade,
        {"service.py": "def handle(data, context): return []", "MAR-INF/MANIFEST.json": manifest(handler="service")},
    )
    done = run(app, verify, shade)
    assert done.exit_code == 0, done.output
    assert outcome(done) == {
        "manifest": "ok", "handler": "ok", "signature": "ok", "worker": "ok", "prediction": "skipped"
    }  # fmt: skip


def test_verify_reports_the_cause_if_a_worker_cannot_start(app: Flask, tmp_path: Path) -> None:
    text = """
        def handle(data, context):
            if data is None:
                open("began", "w").close()
                raise RuntimeError("the vocabulary is missing")
        """
    folder = put(
        tmp_path / "broken", {"service.py": textwrap.dedent(text), "MAR-INF/MANIFEST.json": manifest(handler="service")}
    )
    done = run(app, verify, folder)
    assert done.exit_code == 1 and outcome(done)["worker"] == "failed"
    assert "the vocabulary is missing" in done.stdout and "1 of its checks failed" in done.stderr
    (folder / "began").unlink()
    assert outcome(run(app, verify, folder, "--no-run"))["worker"] == "skipped"
    assert not (folder / "began").exists()


@pytest.mark.parametrize(
    "own", ["", "from ts.torch_handler.base_handler import BaseHandler\nclass Own(BaseHandler): pass"]
)
def test_verify_names_an_archive_of_torchserve(app: Flask, tmp_path: Path, own: str) -> None:
    handler = "own_handler.py" if own else "image_classifier"
    described = {"runtime": "python", "archiverVersion": "0.9.0", "model": {
        "modelName": "densenet161", "serializedFile": "densenet161.pt", "handler": handler, "modelVersion": "1.0"
    }}  # fmt: skip
    files = {"MAR-INF/MANIFEST.json": json.dumps(described), "densenet161.pt": "x", **({handler: own} if own else {})}
    done = run(app, verify, put(tmp_path / "torch", files))
    assert done.exit_code == 1 and outcome(done)["handler"] == "failed"
    assert "densenet161 is a TorchServe archive" in done.stdout and "torch.onnx.export" in done.stdout


@pytest.mark.parametrize(
    ("damage", "failing", "reason"),
    [
        ({"MAR-INF/MANIFEST.json": "{"}, "manifest", "Failed to parse"),
        ({"MAR-INF/MANIFEST.json": manifest(handler="gone:handle")}, "handler", "no gone.py"),
        ({"MAR-INF/MANIFEST.json": manifest(handler="a"), "a.py": "def"}, "handler", "not Python 3"),
        ({"MAR-INF/MANIFEST.json": manifest(handler="a"), "a.py": "x = 1"}, "handler", "neither a function handle"),
        ({"signature.json": "{}"}, "files", "inputs"),
        ({"one.h5": "", "other.h5": ""}, "files", "more than one"),
        ({"shade-symbol.json": "{}"}, "symbol and parameters", "shade-symbol.json"),
        ({"shade-0000.params": "cut"}, "symbol and parameters", "shade-0000.params"),
        (
            {"signature.json": '{"inputs": [{"data_name": "image", "data_shape": [0, 3, 8, 8]}]}'},
            "symbol and parameters",
            "needs data beside shade-0000.params; signature.json gives image",
        ),
        ({"synset.txt": "a\nb\nc\n"}, "labels", "3 labels"),
        (
            {"signature.json": '{"inputs": [{"data_name": "data", "data_shape": [0, 3, 9, 9]}]}'},
            "prediction",
            "shade",
        ),
    ],
)
def test_verify_names_the_part_that_does_not_fit(
    app: Flask, shade: Path, damage: dict[str, str], failing: str, reason: str
) -> None:
    done = run(app, verify, put(shade, damage))
    assert done.exit_code == 1, done.output
    assert [name for name, state in outcome(done).items() if state == "failed"] == [failing]
    line = next(line for line in done.stdout.splitlines() if line.startswith("failed"))
    assert reason in line
    assert done.stderr.count("\n") == 1 and "1 of its checks failed" in done.stderr


def test_verify_names_the_archive_and_not_its_temporary_folder(app: Flask, shade: Path) -> None:
    made = packed(app, put(shade, {"shade-0000.params": "cut"}))
    done = run(app, verify, made)
    assert done.exit_code == 1
    assert f"failed   symbol and parameters: {made}/shade-0000.params cannot be read" in done.stdout


def test_inspecting_an_archive_leaves_no_files(
    app: Flask, shade: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = packed(app, shade)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for command in (inspect, verify):
        assert run(app, command, made).exit_code == 0
    with zipfile.ZipFile(made, "a") as opened:
        opened.writestr("../x", "")
    for command in (inspect, verify, unpack_command):
        assert run(app, command, made).exit_code == 1
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(place.iterdir()) == []
