"""Sentences of files as numbers of words, and their batches."""

import gzip

import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.datasets import LengthBuckets, Sentences, sentence_batches, text_lines

TEXT = "good food , good wine\n\n  \nso bad\ngood \N{LATIN SMALL LETTER E WITH ACUTE}clair\n"


@pytest.fixture(params=[False, True])
def path(request, tmp_path):
    where = tmp_path / "text"
    where.write_bytes(gzip.compress(TEXT.encode()) if request.param else TEXT.encode())
    return where


def test_sentences_are_numbers_of_words_with_an_end(path):
    found = text_lines(path)
    assert found.vocabulary[:3] == ("</s>", "<unk>", "good")
    assert found.lengths.tolist() == [6, 3, 3]
    assert found.tokens.shape == (3, 6)
    assert (found.tokens[1, 2:] == 0).all()
    assert [found.words(row) for row in found.tokens] == [
        line.strip() for line in TEXT.split("\n") if line.strip()
    ]
    assert found.labels == ()


def test_rare_words_are_unknown_and_long_sentences_cut(path):
    found = text_lines(path, vocabulary=3, max_length=4)
    assert found.vocabulary == ("</s>", "<unk>", "good")
    assert found.tokens.tolist() == [[2, 1, 1, 0], [1, 1, 0, 0], [2, 1, 0, 0]]
    other = text_lines(path, vocabulary=found.vocabulary)
    assert other.vocabulary == found.vocabulary
    assert other.tokens.max() == 2


def test_labels_stand_before_the_tab(tmp_path):
    path = tmp_path / "text"
    path.write_text("1\tgood\tfood\n0\tbad\n0\t\n")
    found = text_lines(path, labelled=True)
    assert found.labels == ("1", "0")
    assert found.words(found.tokens[0]) == "good food"


def test_batches_are_of_like_length_and_hold_every_row_once():
    torch.manual_seed(0)
    lengths = torch.randint(1, 30, (503,))
    buckets = LengthBuckets(lengths, 16, seed=1)
    epochs = [list(buckets), list(buckets)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(503))
        assert len(batches) == len(buckets) == 32
        spread = torch.tensor([float(lengths[batch].float().std()) for batch in batches])
        assert spread.nanmean() < 0.2 * lengths.float().std()
    assert epochs[0] != epochs[1]
    assert list(LengthBuckets(lengths, 16, seed=1)) == epochs[0]


def test_loaders_go_straight_into_fit():
    torch.manual_seed(0)
    lengths = torch.randint(2, 9, (40,))
    tokens = torch.randint(2, 7, (40, 8))
    tokens[torch.arange(8) >= lengths[:, None] - 1] = 0
    sentences = Sentences(tokens, lengths, tuple("01abcde"), ())
    loader = sentence_batches(sentences, 10)
    for batch, long in loader:
        assert batch.shape[1] == long.max()
    vae = idvae.IDSVAE(7, 2, base=tokens, base_lengths=lengths, hidden_dim=8, encoder_hidden_dim=8)
    found = idvae.fit(
        vae.model, vae.guide, loader, validation=sentence_batches(sentences, 20), num_epochs=3
    )
    assert len(found.losses) == 3
    assert torch.tensor(found.validation_losses).isfinite().all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"vocabulary": 2}, "vocabulary=2"),
        ({"vocabulary": ("a", "b", "c")}, "vocabulary="),
        ({"vocabulary": 3.5}, "vocabulary='3.5'"),
        ({"max_length": 0}, "max_length=0"),
        ({"labelled": True}, "line 1 of .* has no tab"),
    ],
)
def test_wrong_arguments_are_named(options, named, path):
    with pytest.raises(ValueError, match=named):
        text_lines(path, **options)


def test_files_without_sentences_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        text_lines(tmp_path / "nothing")
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(ValueError, match="no sentences"):
        text_lines(tmp_path / "empty")
    with pytest.raises(ValueError, match="batch_size=0"):
        LengthBuckets(torch.ones(3), 0)
