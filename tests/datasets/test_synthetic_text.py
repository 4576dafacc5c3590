"""Sentences of a known process: their probabilities, and that the true latent says much."""

import itertools
import math

import pytest
import torch

from pyro_idvae.datasets import TextProcess, synthetic_text
from pyro_idvae.datasets.synthetic_text import MEANS

LIMIT = 4.5


def test_probabilities_of_all_sentences_add_up_to_one():
    process = TextProcess(4).double()
    x = torch.tensor(list(itertools.product(range(4), repeat=3)))
    z = torch.tensor([0.5, -1.0]).double().expand(len(x), 2)
    assert process.log_likelihood(x, z).logsumexp(0).abs() < 1e-12


def test_draws_have_the_probabilities_they_should():
    process, n = TextProcess(3), 20_000
    data = process.draw(n, num_tokens=2, seed=1)
    counts = torch.zeros(9).index_add_(0, 3 * data.tokens[:, 0] + data.tokens[:, 1], torch.ones(n))
    pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))
    wanted = torch.stack(
        [process.log_likelihood(pair.expand(n, 2), data.z).exp().mean() for pair in pairs]
    )
    error = (wanted * (1 - wanted) / n).sqrt()
    assert ((counts / n - wanted).abs() < LIMIT * error).all()
    apart = (data.z - torch.tensor(MEANS)[data.components]).mean(0)
    assert (apart.abs() < LIMIT / n**0.5).all()


def test_evidence_is_that_of_quadrature():
    process = TextProcess(20, seed=3)
    data = process.draw(3, num_tokens=5, seed=2)
    found, error = process.log_evidence(data.tokens, data.z, num_draws=8000)
    axis = torch.linspace(-6, 6, 151)
    grid = torch.cartesian_prod(axis, axis)
    area = float(axis[1] - axis[0]) ** 2
    for row in range(3):
        joint = process.log_likelihood(data.tokens[row].expand(len(grid), -1), grid)
        joint = (joint + process.log_prior(grid)).double().logsumexp(0) + math.log(area)
        assert abs(found[row] - joint) < LIMIT * error[row] + 1e-3


def test_the_prior_is_a_density():
    axis = torch.linspace(-9, 9, 361)
    grid = torch.cartesian_prod(axis, axis)
    total = TextProcess(2).log_prior(grid).double().exp().sum() * float(axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1.0, abs=1e-5)


def test_seeds_repeat_and_the_random_state_stays():
    state = torch.get_rng_state()
    one, process = synthetic_text(8, vocabulary_size=30)
    two, again = synthetic_text(8, vocabulary_size=30)
    other, _ = synthetic_text(8, vocabulary_size=30, seed=1)
    assert torch.equal(one.tokens, two.tokens)
    assert not torch.equal(one.tokens, other.tokens)
    assert torch.equal(process.output.weight, again.output.weight)
    assert not process.output.weight.requires_grad
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_data": 0}, "num_data=0"),
        ({"vocabulary_size": 0}, "vocabulary_size=0"),
        ({"num_tokens": 0}, "num_tokens=0"),
        ({"seed": -1}, "seed=-1"),
        ({"process_seed": -1}, "seed=-1"),
    ],
)
def test_wrong_arguments_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        synthetic_text(**options)
