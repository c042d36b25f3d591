"""Opening, conversion and serving in an environment that has neither MXNet nor Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.conversion import load_reference
from app.engines.loader import load
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.settings import ROOT
from tests.engines.networks import classifier, convolution, model_folder, mx, pictures

TESTDATA = ROOT / "tests" / "testdata"
REFERENCES = ("mxnet", "keras")
CODE = """
import json, sys
from pathlib import Path
import numpy
from app.engines.loader import load
from app.errors import DimpleError
from app.formats.folder import open_model_folder
path, choice, cache, rows = sys.argv[1:]
try:
    opened = load(open_model_folder(Path(path)), choice, Path(cache))
except DimpleError as error:
    print(json.dumps({"error": str(error)}))
else:
    answers = opened.engine.predict(numpy.load(rows)).tolist()
    parity = opened.parity and opened.parity.max_abs_difference
    print(json.dumps({"kind": opened.kind, "parity": parity, "unproven": opened.unproven, "answers": answers}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has all packages of this one but the two references."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    here = Path(sysconfig.get_path("purelib"))
    there = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for package in here.iterdir():
        if not package.name.startswith((*REFERENCES, "distutils-precedence")) and package.suffix != ".pth":
            (there / package.name).symlink_to(package)
    return folder / "bin" / "python"


@pytest.fixture
def opened(python: Path, tmp_path: Path) -> Any:
    """Return how a model is opened in that environment, with a cache of this test."""

    def ask(path: Path, choice: str, rows: Any) -> dict[str, Any]:
        np.save(tmp_path / "rows.npy", rows)
        order = [str(part) for part in (path, choice, tmp_path / "cache", tmp_path / "rows.npy")]
        done = subprocess.run([python, "-c", CODE, *order], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_a_checkpoint_is_converted_and_served_without_a_parity_claim(tmp_path: Path, opened: Any) -> None:
    folder, batch = model_folder(tmp_path / "net", classifier(mx.sym.relu(convolution()))), pictures(3)
    found = opened(folder.path, "auto", batch)
    assert (found["kind"], found["parity"]) == ("openvino", None)
    assert found["unproven"].startswith(
        "no reference was available: mxnet is not installed; pip install -r requirements"
    )
    expected = load_reference(folder, "auto").engine.predict(batch)
    assert np.array(found["answers"]) == pytest.approx(expected, abs=1e-5)
    again = load(folder, "openvino", tmp_path / "cache")  # here MXNet is installed, and proves it
    assert again.parity is not None and again.unproven == ""
    proven = opened(folder.path, "openvino", batch)
    assert (proven["parity"], proven["unproven"]) == (again.parity.max_abs_difference, "")


def test_a_keras_file_is_converted_and_answers_as_tensorflow_did(tmp_path: Path, opened: Any) -> None:
    facts = json.loads((TESTDATA / "tf_keras_branches.json").read_text())
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.h5").write_bytes((TESTDATA / "tf_keras_branches.h5").read_bytes())
    found = opened(tmp_path / "net", "auto", np.array(facts["pictures"], np.float32))
    assert (found["kind"], found["parity"]) == ("openvino", None)
    assert found["unproven"].startswith("no reference was available: keras-mxnet with mxnet is not installed; pip")
    assert np.array(found["answers"]) == pytest.approx(np.array(facts["answers"]), abs=1e-5)


def test_a_file_of_keras_mxnet_answers_as_keras_mxnet_does(tmp_path: Path, opened: Any) -> None:
    folder = tmp_path / "smile"
    folder.mkdir()
    for name in ("smile.h5", "signature.json"):
        (folder / name).write_bytes((ROOT / "models" / "smile" / name).read_bytes())
    model = open_model_folder(folder)
    batch = np.random.default_rng(1).random((3, 1, 64, 64), dtype=np.float32)
    found = opened(folder, "auto", batch)
    assert (found["kind"], found["parity"]) == ("openvino", None)
    expected = load_reference(model, "keras").engine.predict(batch)
    assert np.array(found["answers"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("openvino", "cannot be opened: it is not proven equal to its reference .*, and mxnet is not installed; pip"),
        ("mxnet", "cannot be opened by mxnet: mxnet is not installed; pip install -r requirements.txt"),
    ],
)
def test_an_engine_that_needs_mxnet_is_an_error_that_says_what_to_install(
    tmp_path: Path, opened: Any, choice: str, message: str
) -> None:
    folder = model_folder(tmp_path / "net", classifier(convolution()))
    with pytest.raises(ModelFormatError, match=message):
        raise ModelFormatError(opened(folder.path, choice, pictures(1))["error"])


def test_an_unconvertible_model_is_refused_with_the_operation_and_the_remedy(tmp_path: Path, opened: Any) -> None:
    folder = model_folder(tmp_path / "net", classifier(mx.sym.sort(convolution(), axis=1, name="sorted")))
    message = opened(folder.path, "auto", pictures(1))["error"]
    assert "the operation sort cannot be converted (node sorted)" in message
    assert message.endswith("mxnet is not installed; pip install -r requirements.txt installs it")


def test_damaged_files_are_refused_with_the_reason(tmp_path: Path, opened: Any) -> None:
    folder = model_folder(tmp_path / "net", classifier(convolution()))
    assert folder.checkpoint is not None
    folder.checkpoint.params.write_bytes(folder.checkpoint.params.read_bytes()[:300])
    message = opened(folder.path, "auto", pictures(1))["error"]
    assert "net-0000.params cannot be read as MXNet parameters: it ends within" in message
