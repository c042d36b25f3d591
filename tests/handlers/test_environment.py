"""The names that programs of the virtual environment find as soon as they import MXNet."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.formats.folder import open_model_folder
from app.serving.model import open_model
from app.settings import ROOT

PROGRAM = """
import site, sys
site.addsitedir(sys.argv[1])
import numpy, time
print("bool" in vars(numpy), hasattr(time, "clock"))
import mxnet
print("bool" in vars(numpy), mxnet.nd.array(numpy.zeros(2)).shape)
import mms
print(mms.__version__)
"""


def test_mxnet_can_be_imported_and_other_programs_see_no_difference(tmp_path: Path) -> None:
    module = runpy.run_path(str(ROOT / "app/handlers/runtime/dimple_child/environment.py"))
    module["write"](tmp_path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert done.stdout.splitlines() == ["False False", "True (2,)", "1.1.11"], done.stderr


KERAS = """
import site, sys
site.addsitedir(sys.argv[1])
import numpy as np
from keras.models import load_model
from keras.preprocessing.image import ImageDataGenerator
pictures = ImageDataGenerator(rescale=1 / 255).flow(np.load(sys.argv[2]), shuffle=False, batch_size=2)[0]
pictures = pictures.transpose(0, 3, 1, 2)
network = load_model(sys.argv[3])
network.save_weights("weights.h5")
network.set_weights([0 * one for one in network.get_weights()])
network.load_weights("weights.h5")
network.save("whole.h5")
np.save("answers.npy", load_model("whole.h5").predict(pictures))
"""


@pytest.mark.slow
def test_keras_reads_and_writes_its_files_as_the_dogs_and_cats_tutorial_does(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "app/handlers/runtime/dimple_child/environment.py"))["write"](tmp_path)
    pictures = np.random.default_rng(2).uniform(0, 255, (2, 150, 150, 3)).astype(np.float32)
    np.save(tmp_path / "pictures.npy", pictures)
    folder = ROOT / "models" / "dogcat"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS"))}
    environ |= {"KERAS_HOME": str(tmp_path / "keras"), "KERAS_BACKEND": "mxnet"}
    command = [sys.executable, "-W", "ignore", "-c", KERAS, str(tmp_path), "pictures.npy", str(folder / "dogcat.h5")]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    model = open_model(open_model_folder(folder), "keras")
    (dog,) = np.load(tmp_path / "answers.npy").T
    assert model.probabilities((pictures / 255).transpose(0, 3, 1, 2))[:, 1] == pytest.approx(dog, abs=1e-5)


def test_a_missing_checkout_is_not_an_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (gone / "site" / "dimple_child").mkdir(parents=True)
    source = ROOT / "app/handlers/runtime/dimple_child/environment.py"
    copy = gone / "site" / "dimple_child" / source.name
    copy.write_bytes(source.read_bytes())
    runpy.run_path(str(copy))["write"](tmp_path)
    copy.unlink()
    (gone / "site" / "dimple_child").rmdir()
    (gone / "site").rmdir()
    program = "import site, sys; site.addsitedir(sys.argv[1]); print('well')"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("well\n", "")
