import gzip

import numpy as np
import pytest
import torch

from pyro_idvae.datasets import binarize, fashion_mnist, omniglot, single_cells, yelp_counts

LIMIT = 4.5
"""Standard errors; 3.4e-6 of a chance each."""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    images = {
        f"{part}_images": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        for part, n in (("train", 6), ("test", 3))
    }
    for name, labels in (("fashion_mnist", "labels"), ("omniglot_28", "alphabet")):
        numbers = {
            f"{part}_{labels}": np.arange(n, dtype=np.uint8)
            for part, n in (("train", 6), ("test", 3))
        }
        np.savez(tmp_path / f"{name}.npz", **images, **numbers)
    np.savez(
        tmp_path / "pbmc68k_reduced.npz",
        counts=np.arange(40, dtype=np.int16).reshape(10, 4),
        bulk_labels=np.arange(10, dtype=np.int8) % 2,
        bulk_label_names=np.array(["B", "NK"]),
        genes=np.array(["a", "b", "c", "d"]),
    )
    for part, text in (
        ("train", "0\tgood food , good wine\n1\tgood soup\n1\tunheard\n"),
        ("test", "1\twine\n0\tnothing known\n0\tgood\tgood\n"),
    ):
        with gzip.open(tmp_path / f"yelp_small.{part}.txt.gz", "wt", encoding="utf-8") as file:
            file.write(text)
    return tmp_path


@pytest.mark.parametrize("load", [fashion_mnist, omniglot])
def test_images_are_ink_from_0_to_1(load, folder):
    found = load(folder)
    assert found.train.shape == (6, 784)
    assert found.test.shape == (3, 784)
    assert found.train.dtype == torch.float32
    assert found.train_labels.tolist() == list(range(6))
    name = "fashion_mnist.npz" if load is fashion_mnist else "omniglot_28.npz"
    with np.load(folder / name) as file:
        own = torch.tensor(file["test_images"].reshape(3, -1).astype(np.float64))
    assert torch.equal((found.test.double() * 255).round(), own)
    assert found.test.max() <= 1


def test_black_and_white_pixels_have_the_ink_as_their_mean():
    ink = torch.linspace(0, 1, 11).repeat(4000, 1)
    found = binarize(ink, seed=3)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    error = (ink[0] * (1 - ink[0]) / 4000).sqrt()
    assert ((found.mean(0) - ink[0]).abs() <= LIMIT * error).all()
    assert torch.equal(found, binarize(ink, seed=3))
    assert not torch.equal(found, binarize(ink, seed=4))


def test_random_state_stays(folder):
    state = torch.get_rng_state()
    binarize(torch.rand(3, generator=torch.Generator()), seed=0)
    single_cells(folder, num_test=2)
    assert torch.equal(state, torch.get_rng_state())


def test_cells_keep_their_types_and_are_split(folder):
    found = single_cells(folder, num_test=3, seed=1)
    assert found.genes == ("a", "b", "c", "d")
    assert found.types == ("B", "NK")
    together = torch.cat([found.train, found.test])
    assert torch.equal(together.sort(0).values, torch.arange(40.0).reshape(10, 4))
    types = torch.cat([found.train_types, found.test_types])
    assert torch.equal(types, (together[:, 0] / 4).long() % 2)


def test_words_are_counted(folder):
    found = yelp_counts(folder, vocabulary_size=3)
    assert found.vocabulary[0] == "good"
    assert found.train[:, 0].tolist() == [2.0, 1.0]
    # A sentence of none of these words is left out; a tab inside a sentence is white space.
    assert found.test[-1].tolist() == [2.0, 0.0, 0.0]
    assert (found.test.sum(1) > 0).all()


@pytest.mark.parametrize("load", [fashion_mnist, omniglot, single_cells, yelp_counts])
def test_missing_files_are_named(load, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no file"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder="):
        load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: single_cells(folder, num_test=10), "num_test=10"),
        (lambda folder: single_cells(folder, num_test=0), "num_test=0"),
        (lambda folder: single_cells(folder, num_test=2, seed=-1), "seed=-1"),
        (lambda folder: yelp_counts(folder, vocabulary_size=0), "vocabulary_size=0"),
        (lambda _: binarize(torch.tensor([2.0]), seed=0), "ink outside"),
        (lambda _: binarize(torch.tensor([float("nan")]), seed=0), "ink outside"),
    ],
)
def test_wrong_arguments_are_named(make, named, folder):
    with pytest.raises(ValueError, match=named):
        make(folder)
