"""Which GPU a worker computes on."""

from __future__ import annotations

import functools
import itertools
import logging
import os

from app.machine import gpus

log = logging.getLogger(__name__)

_turns = itertools.count()


@functools.cache
def usable_gpus(number: int) -> int:
    """Return how many GPUs workers are given in turn: not more than there are, as in Multi Model Server. If there are
    fewer than the settings name, the log says so, once.

    :param number: the setting; 0 asks nobody.
    """
    there = gpus() if number else 0
    if number > there:
        log.warning("number_of_gpu is %d, but nvidia-smi lists %d GPUs: handlers are given no more", number, there)
    return min(number, there)


def next_gpu(number: int) -> int | None:
    """The next GPU in turn, whatever model the last one went to, as Multi Model Server gives them.

    :param number: of GPUs; 0 gives None.
    """
    if not number:
        return None
    # Server processes do not know of each other. Were each to begin with the first GPU, it would have most of the work;
    # their process ids are mostly consecutive.
    return (os.getpid() + next(_turns)) % number
