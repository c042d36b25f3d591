"""Training with cross-validation: how good a head trained in the same way is on pictures that it has not seen."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from app.progress import progress
from app.training.transfer.folds import Numbers, assign_folds, parts
from app.training.transfer.head import Doubles, Head, Rows, fit_head


@dataclass(frozen=True)
class Validated:
    """A head, trained on all pictures, and what is to be expected of it.

    ``probabilities`` (N, K) are those that each picture gets from a head that was trained without its fold; ``folds``
    (N,) are the numbers of the folds.
    """

    head: Head
    probabilities: Doubles
    folds: Numbers


def train_and_validate(rows: Rows, folds: int, seed: int, threads: int) -> Validated:
    """Train once on everything and once without each fold; each time all that is chosen is chosen anew, from the
    pictures trained on.

    :param threads: how many trainings run at once. The numbers do not depend on it.
    """
    numbers = assign_folds(rows.classes, rows.groups, folds, seed)
    everything = np.arange(len(numbers))
    trained_on = [everything, *(outside for outside, _ in parts(numbers))]
    heads: dict[int, Head] = {}
    with (
        warnings.catch_warnings(),
        threadpool_limits(1, user_api="blas"),  # sums in parallel come out differently with every count of threads
        ThreadPoolExecutor(threads) as pool,
        progress("head and validation", len(trained_on), "trainings") as shown,
    ):
        warnings.simplefilter("ignore")  # where a weak regularisation does not converge, it is not chosen
        tasks = {pool.submit(fit_head, rows.take(part), seed): key for key, part in enumerate(trained_on)}
        for task in as_completed(tasks):
            heads[tasks[task]] = task.result()
            shown.advance()
    probabilities = np.zeros((len(numbers), len(heads[0].bias)))
    for key, (_, inside) in enumerate(parts(numbers), start=1):
        probabilities[inside] = heads[key].probabilities(rows.features[inside])
    return Validated(heads[0], probabilities, numbers)
