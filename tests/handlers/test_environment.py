"""The names that programs of the virtual environment find as soon as they import MXNet."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

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
    module = runpy.run_path(str(ROOT / "app/handlers/site/dimple_child/environment.py"))
    module["write"](tmp_path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert done.stdout.splitlines() == ["False False", "True (2,)", "1.1.11"], done.stderr


def test_a_checkout_that_has_gone_is_no_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (gone / "site" / "dimple_child").mkdir(parents=True)
    source = ROOT / "app/handlers/site/dimple_child/environment.py"
    copy = gone / "site" / "dimple_child" / source.name
    copy.write_bytes(source.read_bytes())
    runpy.run_path(str(copy))["write"](tmp_path)
    copy.unlink()
    (gone / "site" / "dimple_child").rmdir()
    (gone / "site").rmdir()
    program = "import site, sys; site.addsitedir(sys.argv[1]); print('well')"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("well\n", "")
