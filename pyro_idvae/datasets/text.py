# SPDX-License-Identifier: Apache-2.0
"""Sentences in files, one a line, and how often each holds each word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.datasets.local import Folder, find
from pyro_idvae.datasets.sizes import check_size
from pyro_idvae.datasets.text_lines import read_sentences

WHAT = "lines of a label, a tab and a sentence"


class CountSplit(NamedTuple):
    """Word counts of training and held-out sentences.

    Attributes:
        train: of shape ``(n, vocabulary)``, as float32.
        test: of held-out sentences.
        vocabulary: the words, the most frequent first.
    """

    train: Tensor
    test: Tensor
    vocabulary: tuple[str, ...]


def yelp_counts(folder: Folder, *, vocabulary_size: int = 500) -> CountSplit:
    """Load word counts of short sentences from reviews.

    Args:
        folder: with ``yelp_small.train.txt.gz`` and ``yelp_small.test.txt.gz``: a label, a tab and
            a sentence a line.
        vocabulary_size: most frequent words of the training sentences that are counted. Sentences
            without any of them are left out.

    Returns:
        A :class:`CountSplit`.

    Raises:
        FileNotFoundError: without the files.
    """
    check_size("vocabulary_size", vocabulary_size)
    train, test = (
        read_sentences(find(folder, f"yelp_small.{part}.txt.gz", WHAT), labelled=True)[1]
        for part in ("train", "test")
    )
    found = Counter(word for sentence in train for word in sentence)
    vocabulary = tuple(word for word, _ in found.most_common(vocabulary_size))
    return CountSplit(_counts(train, vocabulary), _counts(test, vocabulary), vocabulary)


def _counts(sentences: list[list[str]], vocabulary: Sequence[str]) -> Tensor:
    number = {word: place for place, word in enumerate(vocabulary)}
    counts = torch.zeros(len(sentences), len(vocabulary))
    for row, sentence in zip(counts, sentences, strict=True):
        for word in sentence:
            if word in number:
                row[number[word]] += 1
    return counts[counts.sum(1) > 0]
