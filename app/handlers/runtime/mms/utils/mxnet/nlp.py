"""Sentences as numbers."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np


def encode_sentences(
    sentences: Sequence[Sequence[str]],
    vocab: dict[str, int] | None = None,
    invalid_label: int = -1,
    invalid_key: str = "\n",
    start_label: int = 0,
) -> tuple[list[list[int]], dict[str, int]]:
    """Replace the words of sentences by numbers.

    :param vocab: the words' numbers; one that it lacks becomes ``invalid_label``. None numbers the words as they come,
        from ``start_label`` on, leaving out ``invalid_label``, which stands for ``invalid_key``.
    :returns: the sentences in numbers, and the vocabulary.
    """
    if vocab is not None:
        return [[vocab.get(word, invalid_label) for word in sentence] for sentence in sentences], vocab
    built = {invalid_key: invalid_label}
    following = start_label
    for word in (word for sentence in sentences for word in sentence):
        if word not in built:
            following += following == invalid_label
            built[word] = following
            following += 1
    return [[built[word] for word in sentence] for sentence in sentences], built


def pad_sentence(
    sentence: Sequence[int],
    buckets: Sequence[int],
    invalid_label: int = -1,
    data_name: str = "data",
    layout: str = "NT",
) -> Any:
    """Lengthen a sentence to the smallest bucket that holds it.

    :param buckets: lengths, ascending.
    :param layout: ``NT`` for (1, length), ``TN`` for (length, 1).
    :returns: ``mxnet.io.DataBatch`` with one float32 array, (1, length), and the bucket's length as its key.
    :raises IndexError: where the sentence is longer than every bucket.
    """
    length = buckets[bisect.bisect_left(buckets, len(sentence))]
    padded = np.full((1, length), invalid_label, np.float32)
    padded[0, : len(sentence)] = sentence
    shape = (1, length) if layout == "NT" else (length, 1)
    described = mx.io.DataDesc(name=data_name, shape=shape, layout=layout)
    return mx.io.DataBatch([mx.nd.array(padded)], pad=0, bucket_key=length, provide_data=[described])
