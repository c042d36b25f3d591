"""Check of a loaded network before it answers anybody: different pictures, each computed twice."""

from __future__ import annotations

import numpy as np

from app.engines.base import Engine
from app.engines.parity import predict_each
from app.engines.samples import samples
from app.errors import ModelFormatError
from app.types import FloatArray, Signature

SAME = 1e-6
"""Difference, in parts of the largest value, up to which two answers count as the same."""
REPEATABLE = 1e-4
"""Difference, in parts of the largest value, that two computations of the same picture may have."""
PICTURES, FACE = (2, 4), 9
"""Numbers of the samples: a gradient and a chequered picture; and a face, for networks that answer both alike."""


def probe(engine: Engine, signature: Signature) -> tuple[FloatArray, list[str]]:
    """Let a network answer different pictures, each twice.

    :returns: the answers (N, classes) as the network gives them, and warnings.
    :raises ModelFormatError: if an answer is not a row of finite numbers, or the same picture gets two answers.
    """
    preprocess, shape = signature.preprocess, signature.inputs[0].shape
    rows = samples(preprocess, shape, PICTURES)
    answers, again = predict_each(engine, rows), predict_each(engine, rows)
    if not np.isfinite(answers).all():
        raise ModelFormatError("the network's answer holds values that are not numbers; its weights are damaged")
    largest = max(1.0, float(np.abs(answers).max()))
    if not np.abs(answers - again).max() <= REPEATABLE * largest:
        raise ModelFormatError("the network gives two answers for the same picture; its engine cannot compute it")
    if np.abs(answers[0] - answers[1]).max() <= SAME * largest:
        answers = np.concatenate([answers, engine.predict(samples(preprocess, shape, (FACE,)))])
        if np.abs(answers - answers[0]).max() <= SAME * largest:
            return answers, [
                f"different pictures get the same answer. Most likely the network takes other pixels than it is given "
                f"(scale {preprocess.scale:.6g}): correct preprocess in signature.json, or import it again with "
                "--scale and --mean"
            ]
    if signature.postprocess.activation == "none" and not _are_probabilities(answers):
        return answers, [
            "its answers are not probabilities of 0-1, and signature.json asks for no activation: state "
            '"postprocess": {"activation": "softmax"} there if they are logits'
        ]
    return answers, []


def _are_probabilities(answers: FloatArray) -> bool:
    return bool((answers >= -SAME).all() and (answers <= 1 + REPEATABLE).all())
