"""The import of MXNet: the modules that it loads, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from app.settings import ROOT


def test_mxnet_is_imported_without_optional_packages_which_can_be_imported_later() -> None:
    code = (
        "import sys; from app.engines.mxnet.compat import prepare; prepare(); "
        "print(*{'sklearn', 'scipy.stats'} & set(sys.modules)); "
        "import mxnet; from sklearn.linear_model import LogisticRegression; from scipy import stats; "
        "print(mxnet.nd.ones(2).sum().asscalar(), LogisticRegression.__name__, stats.norm.cdf(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "2.0 LogisticRegression 0.5"]
