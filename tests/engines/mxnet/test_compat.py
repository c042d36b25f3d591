"""What the import of MXNet brings along, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from app.settings import ROOT


def test_mxnet_comes_without_the_packages_that_it_does_not_need_and_they_can_be_imported_later() -> None:
    code = (
        "import sys; from app.engines.mxnet.compat import prepare; prepare(); "
        "print(*{'sklearn', 'scipy.stats'} & set(sys.modules)); "
        "import mxnet; from sklearn.linear_model import LogisticRegression; from scipy import stats; "
        "print(mxnet.nd.ones(2).sum().asscalar(), LogisticRegression.__name__, stats.norm.cdf(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "2.0 LogisticRegression 0.5"]
