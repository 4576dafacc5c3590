# SPDX-License-Identifier: Apache-2.0
"""Sentences of a file, one a line, as numbers of words; and batches of sentences of like length."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from pyro_idvae.datasets.local import Folder
from pyro_idvae.datasets.sizes import check_seed, check_size

END, UNKNOWN = "</s>", "<unk>"
GZIP = b"\x1f\x8b"
NUM_MARKS = 2


class Sentences(NamedTuple):
    """Sentences as numbers of words, padded to one length.

    Attributes:
        tokens: of shape ``(n, T)``, as int64; 0 is the end mark, and the padding after it.
        lengths: how many tokens of each count, the end mark included.
        vocabulary: the words by their numbers: the end mark, the unknown word, then the others, the
            most frequent first.
        labels: what stood before the tab of each line; empty if there was none.
    """

    tokens: Tensor
    lengths: Tensor
    vocabulary: tuple[str, ...]
    labels: tuple[str, ...]

    def words(self, tokens: Tensor) -> str:
        """Return one sentence of tokens as text, up to its end mark."""
        ended = (tokens == 0).nonzero()
        kept = tokens if not len(ended) else tokens[: int(ended[0])]
        return " ".join(self.vocabulary[int(token)] for token in kept)


def text_lines(
    path: Folder,
    *,
    vocabulary: int | Sequence[str] = 10_000,
    max_length: int | None = None,
    labelled: bool = False,
) -> Sentences:
    r"""Load sentences, one a line, their words separated by white space.

    Args:
        path: of the file, in UTF-8, compressed by gzip or not. Empty lines are left out.
        vocabulary: how many words to keep, the most frequent ones, marks included; or the words
            themselves, of training sentences, for others beside them.
        max_length: longer sentences are cut to it, end mark included; None keeps them.
        labelled: whether each line begins with a label and a tab.

    Returns:
        A :class:`Sentences`. ``IDSVAE(len(vocabulary), K, end_token=0)`` models its ``tokens``;
        without ``end_token``, (``tokens``, ``lengths``).

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a file without sentences, lines without a tab where labels are expected, a
            vocabulary that is too small or has other marks, or sizes that are none.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from pyro_idvae.datasets import text_lines
        >>> path = Path(mkdtemp()) / "text"
        >>> _ = path.write_text("good food\ngood wine , good bread\n")
        >>> found = text_lines(path, vocabulary=5)
        >>> found.vocabulary, found.lengths.tolist(), found.words(found.tokens[0])
        (('</s>', '<unk>', 'good', 'food', 'wine'), [3, 6], 'good food')
    """
    where = Path(path)
    if not where.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file of sentences")
    if max_length is not None:
        check_size("max_length", max_length)
    labels, sentences = read_sentences(where, labelled=labelled)
    if isinstance(vocabulary, int) and not isinstance(vocabulary, bool):
        if vocabulary <= NUM_MARKS:
            raise ValueError(
                f"vocabulary={vocabulary}: expected more than the {NUM_MARKS} marks, {END} and "
                f"{UNKNOWN}"
            )
        counts = Counter(word for sentence in sentences for word in sentence)
        kept = (word for word, _ in counts.most_common() if word not in (END, UNKNOWN))
        words = (END, UNKNOWN, *islice(kept, vocabulary - NUM_MARKS))
    else:
        words = tuple(vocabulary) if isinstance(vocabulary, Sequence) else ()
        if words[:NUM_MARKS] != (END, UNKNOWN):
            raise ValueError(
                f"vocabulary={str(vocabulary)[:60]!r}: expected a whole number, or words of which "
                f"the first are {END} and {UNKNOWN}"
            )
    number = {word: place for place, word in enumerate(words)}
    rows = [[number.get(word, 1) for word in sentence] for sentence in sentences]
    rows = [[*row[: None if max_length is None else max_length - 1], 0] for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return Sentences(tokens, lengths, words, labels)


def read_sentences(path: Path, *, labelled: bool) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return labels, if there are any, and the words of each sentence of a file."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    labels, sentences = [], []
    opener: Any = gzip.open if packed else open
    with opener(path, "rt", encoding="utf-8") as file:
        for place, line in enumerate(file, start=1):
            label, tab, rest = line.rstrip("\n").partition("\t")
            if labelled and not tab:
                raise ValueError(f"labelled=True: line {place} of {str(path)!r} has no tab")
            words = (rest if labelled else line).split()
            if words:
                labels.append(label)
                sentences.append(words)
    if not sentences:
        raise ValueError(f"path={str(path)!r}: the file has no sentences")
    return (tuple(labels) if labelled else ()), sentences


class LengthBuckets(Sampler[list[int]]):
    """Batches of rows of like length, in another order in each epoch.

    Rows are shuffled, sorted by length within groups of some batches, and the batches shuffled.

    Args:
        lengths: of the rows.
        batch_size: rows a batch.
        seed: of the order.
        batches_a_group: how many batches are sorted together.
    """

    def __init__(
        self, lengths: Tensor, batch_size: int, *, seed: int = 0, batches_a_group: int = 50
    ) -> None:
        self.lengths = lengths
        self.batch_size = check_size("batch_size", batch_size)
        self.group = self.batch_size * check_size("batches_a_group", batches_a_group)
        self.generator = torch.Generator().manual_seed(check_seed(seed))

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(self.lengths), generator=self.generator)
        batches: list[Tensor] = []
        for group in order.split(self.group):
            batches += group[self.lengths[group].argsort()].split(self.batch_size)
        for place in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[place].tolist()


def sentence_batches(
    sentences: Sentences, batch_size: int, *, seed: int = 0
) -> DataLoader[tuple[Tensor, ...]]:
    """Return a loader of (tokens, lengths) of sentences of like length, for ``fit``.

    Tokens of a batch are as wide as its longest sentence, so that little is computed for padding.

    Args:
        sentences: of :func:`text_lines`.
        batch_size: sentences a batch.
        seed: of the order.

    Example:
        >>> import torch
        >>> from pyro_idvae.datasets import Sentences, sentence_batches
        >>> tokens = torch.tensor([[2, 0, 0], [3, 2, 0]])
        >>> sentences = Sentences(tokens, torch.tensor([2, 3]), ("</s>", "<unk>", "a", "b"), ())
        >>> sorted(len(lengths) for _, lengths in sentence_batches(sentences, 2))
        [2]
    """
    rows = TensorDataset(sentences.tokens, sentences.lengths)
    buckets = LengthBuckets(sentences.lengths, batch_size, seed=seed)
    return DataLoader(rows, batch_sampler=buckets, collate_fn=_trimmed)


def _trimmed(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    tokens, lengths = (torch.stack(part) for part in zip(*rows, strict=True))
    return tokens[:, : int(lengths.max())], lengths
