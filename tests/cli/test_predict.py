from __future__ import annotations

import csv
import io
import json
import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from app import create_app, load_models
from app.cli.predict import predict
from app.formats.mxnet_params import write_params
from app.formats.signature import write_signature
from app.settings import ROOT, Settings
from app.types import Postprocess, Preprocess, Signature, TensorSpec
from tests.conftest import CACHE
from tests.pictures import encode
from tests.rounding import rounding

STEEP = 10.0
ASTRONAUT = ROOT / "static" / "astronaut.jpg"


def write_shade_model(folder: Path) -> None:
    """Write a network of one weight for each pixel, all equal: it computes how light a picture is, as :func:`light`
    does.
    """
    folder.mkdir(parents=True)
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "Flatten", "name": "flat", "inputs": [[0, 0, 0]]},
        {"op": "null", "name": "fc_weight", "inputs": []},
        {"op": "null", "name": "fc_bias", "inputs": []},
        {
            "op": "FullyConnected",
            "name": "fc",
            "attrs": {"num_hidden": "1"},
            "inputs": [[1, 0, 0], [2, 0, 0], [3, 0, 0]],
        },
    ]
    graph = {"nodes": nodes, "arg_nodes": [0, 2, 3], "heads": [[4, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}
    (folder / "shade-symbol.json").write_text(json.dumps(graph))
    weight, bias = np.full((1, 3 * 8 * 8), STEEP / (3 * 8 * 8), np.float32), np.full(1, -STEEP / 2, np.float32)
    write_params(folder / "shade-0000.params", {"arg:fc_weight": weight, "arg:fc_bias": bias})
    (folder / "synset.txt").write_text("dark\nlight\n")
    signature = Signature(
        (TensorSpec("data", (0, 3, 8, 8)),),
        (TensorSpec("fc", (0, 1)),),
        Preprocess(scale=1 / 255),
        Postprocess(activation="sigmoid", top=0),
    )
    write_signature(signature, folder / "signature.json")


def light(grey: int) -> float:
    """Return the probability of light that the shade network gives a picture of one grey, 0-255."""
    return 1 / (1 + math.exp(-STEEP * (grey / 255 - 0.5)))


def grey(level: int) -> bytes:
    return encode(Image.new("RGB", (20, 12), (level,) * 3), "PNG")


def make_app(folder: Path, **settings: Any) -> Flask:
    """Return the application with the shade model and the smile network; nothing is loaded.

    :param settings: further ones.
    """
    write_shade_model(folder / "models" / "shade")
    shutil.copytree(ROOT / "models" / "smile", folder / "models" / "smile")
    (folder / "models" / "broken").mkdir()
    (folder / "models" / "broken" / "broken-symbol.json").write_text("{}")
    return create_app(
        Settings(
            models_dir=folder / "models",
            cache_dir=CACHE,
            uploads_dir=folder / "uploads",
            instance_dir=folder / "instance",
            max_pixels=1_000_000,
            **settings,
        )
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return make_app(tmp_path_factory.mktemp("app"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three pictures, one of them in a subfolder, and a text file."""
    found = tmp_path / "pictures"
    (found / "deep").mkdir(parents=True)
    (found / "black.png").write_bytes(grey(0))
    (found / "deep" / "white.PNG").write_bytes(grey(255))
    (found / "middling.png").write_bytes(grey(140))
    (found / "readme.txt").write_text("no picture")
    return found


def run(app: Flask, *arguments: object, stdin: bytes = b"") -> Result:
    return app.test_cli_runner().invoke(predict, [str(argument) for argument in arguments], input=stdin)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_table_has_a_line_for_each_file_of_a_folder_in_order(app: Flask, folder: Path) -> None:
    done = run(app, "shade", folder)
    assert done.exit_code == 0, done.output
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["file", "class", "probability"]
    assert [line.split() for line in lines] == [
        [f"{folder}/black.png", "dark", f"{1 - light(0):.4f}"],
        [f"{folder}/deep/white.PNG", "light", f"{light(255):.4f}"],
        [f"{folder}/middling.png", "light", f"{light(140):.4f}"],
    ]
    assert len({len(line) for line in [header, *lines]}) == 1


def test_a_table_of_two_classes_has_the_second_below_the_first(app: Flask, folder: Path) -> None:
    done = run(app, "shade", folder / "middling.png", "--top", 5)
    _, first, second = done.stdout.splitlines()
    assert first.split()[1:] == ["light", f"{light(140):.4f}"]
    assert second.split() == ["dark", f"{1 - light(140):.4f}"]


def test_csv_has_a_column_for_each_class_and_quotes_what_needs_it(app: Flask, folder: Path) -> None:
    odd = folder / 'odd, "name".png'
    odd.write_bytes(grey(90))
    done = run(app, "shade", folder, "--format", "csv", "--top", 2)
    assert done.stdout.splitlines()[0] == "file,class,probability,class2,probability2"
    rows = {row["file"]: row for row in rows_of(done.stdout)}
    assert len(rows) == 4
    assert rows[str(odd)]["class"] == "dark"
    assert float(rows[str(odd)]["probability2"]) == pytest.approx(light(90), rel=1e-4)


def test_csv_has_only_the_best_class_by_default(app: Flask, folder: Path) -> None:
    done = run(app, "shade", folder / "black.png", "--format", "csv")
    (row,) = rows_of(done.stdout)
    assert list(row) == ["file", "class", "probability"]


def test_csv_has_no_more_columns_than_there_are_classes(app: Flask, folder: Path) -> None:
    done = run(app, "shade", folder / "black.png", "--format", "csv", "--top", 9)
    (row,) = rows_of(done.stdout)
    assert list(row) == ["file", "class", "probability", "class2", "probability2"]


def test_jsonl_is_the_servers_answer_and_the_file(tmp_path: Path) -> None:
    app = make_app(tmp_path / "app", shipped_models=False)
    done = run(app, "smile", ASTRONAUT, "--format", "jsonl")
    (line,) = done.stdout.splitlines()
    document: dict[str, Any] = json.loads(line)
    load_models(app)
    answer = app.test_client().post("/predict/smile", data=ASTRONAUT.read_bytes(), content_type="image/jpeg")
    served = json.loads(answer.data, parse_float=lambda number: pytest.approx(float(number), abs=rounding(layers=20)))
    app.extensions["dimple"].registry.close()
    assert list(document) == ["file", *served]
    assert document.pop("file") == str(ASTRONAUT)
    assert document.pop("timing_ms").keys() == served.pop("timing_ms").keys()
    assert document == served
    assert document["faces"][0]["predictions"][0]["class"] == "smiling"


def test_jsonl_notes_that_no_face_was_found(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "plain.png").write_bytes(encode(Image.new("RGB", (300, 200), (9, 90, 9)), "PNG"))
    document = json.loads(run(app, "smile", tmp_path / "plain.png", "--format", "jsonl").stdout)
    assert document["faces"] == []
    assert "No face" in document["note"]


def test_faces_are_counted_if_they_are_searched_for(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "crop.png").write_bytes(encode(Image.new("L", (64, 64), 90), "PNG"))  # taken whole, without a search
    done = run(app, "smile", ASTRONAUT, tmp_path / "crop.png", "--format", "csv")
    assert [row["faces"] for row in rows_of(done.stdout)] == ["1", ""]
    header, line = run(app, "smile", ASTRONAUT).stdout.splitlines()
    assert header.split()[-1] == "faces"
    assert line.split()[-1] == "1"


def test_a_zip_is_read_without_unpacking(app: Flask, folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.ZIP", "w") as archive:
        archive.write(folder / "black.png", "in/black.png")
        archive.write(folder / "deep" / "white.PNG", "white.PNG")
        archive.writestr("notes.txt", "no picture")
    done = run(app, "shade", tmp_path / "all.ZIP", "--format", "csv")
    assert [(Path(row["file"]).name, row["class"]) for row in rows_of(done.stdout)] == [
        ("black.png", "dark"),
        ("white.PNG", "light"),
    ]
    assert rows_of(done.stdout)[0]["file"] == f"{tmp_path}/all.ZIP/in/black.png"


def test_a_dash_is_standard_input(app: Flask) -> None:
    done = run(app, "shade", "-", "--format", "csv", stdin=grey(255))
    (row,) = rows_of(done.stdout)
    assert (row["file"], row["class"]) == ("-", "light")


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_failures_are_listed_last_and_do_not_stop_the_run(app: Flask, folder: Path, tmp_path: Path, form: str) -> None:
    (folder / "cut.png").write_bytes(grey(100)[:60])
    (folder / "empty.jpg").touch()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "no.zip").write_bytes(b"no zip")
    paths = (tmp_path / "no.zip", folder, folder / "readme.txt", tmp_path / "nothing")
    done = run(app, "shade", *paths, "--format", form)
    assert done.exit_code == 1
    for good in ("black.png", "white.PNG", "middling.png"):
        assert good in done.stdout
    failures = done.stderr.splitlines()[-6:]
    assert failures[0].startswith("5 ")
    named = ["no.zip", "nothing", "cut.png", "empty.jpg", "readme.txt"]
    assert [Path(line.split(": ")[0]).name for line in failures[1:]] == named
    assert "is empty" in failures[4]
    assert "Traceback" not in done.stderr
    assert not any(name in done.stdout for name in named)


def test_a_picture_that_cannot_be_opened_is_a_failure_among_others(app: Flask, folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    done = run(app, "shade", folder, "--format", "csv")
    assert done.exit_code == 1
    assert len(rows_of(done.stdout)) == 3
    assert "gone.png" in done.stderr.splitlines()[-1]


def test_a_picture_with_too_many_pixels_is_refused_as_by_the_server(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(encode(Image.new("L", (1001, 1000)), "PNG"))
    done = run(app, "shade", tmp_path / "large.png")
    assert done.exit_code == 1
    assert "1001 x 1000" in done.stderr


def test_many_pictures_keep_their_order(app: Flask, tmp_path: Path) -> None:
    levels = np.random.default_rng(1).permutation(256)[:60].tolist()
    for number, level in enumerate(levels):
        (tmp_path / f"{number:02}.png").write_bytes(grey(level))
    done = run(app, "shade", tmp_path, "--format", "jsonl")
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(item["file"]).name for item in documents] == [f"{number:02}.png" for number in range(60)]
    found = [{p["class"]: p["probability"] for p in item["predictions"]}["light"] for item in documents]
    assert found == pytest.approx([light(level) for level in levels], abs=1e-5)


def test_an_unknown_model_is_an_error_that_lists_the_existing_models(app: Flask, folder: Path) -> None:
    for name in ("smail", "../models/smile", "."):
        done = run(app, name, folder)
        assert done.exit_code == 1
        assert f"Model not found: {name}. There are: broken, imagenet, shade, smile." in done.stderr


def test_a_broken_model_is_an_error_without_a_traceback(app: Flask, folder: Path) -> None:
    done = run(app, "broken", folder)
    assert done.exit_code == 1
    assert "broken" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("shade",),
        ("shade", "no/such/file.png"),
        ("shade", ASTRONAUT, "--format", "xml"),
        ("shade", ASTRONAUT, "--top", "0"),
    ],
)
def test_a_usage_error_exits_with_status_two(app: Flask, arguments: tuple[object, ...]) -> None:
    done = run(app, *arguments)
    assert done.exit_code == 2
    assert "Usage" in done.stderr
