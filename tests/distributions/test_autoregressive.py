"""Likelihoods of token sequences: their law, their floor, and a softmax that has none."""

import copy
import itertools
import math
import pickle

import pytest
import torch

from pyro_idvae import IDSVAE
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.errors import ArgumentError
from pyro_idvae.testing import lipschitz_search
from tests.testing import table

HISTORIES = ("lstm", "gru", "transformer", "none")
LIMIT = 4.5


def injective(history="lstm", vocabulary=4, **options):
    torch.manual_seed(0)
    sizes = {"hidden_dim": 8, "hidden_dims": [8], "output_hidden_dims": [8]}
    vae = IDSVAE(vocabulary, 2, history, **{**sizes, **options}, encoder_hidden_dim=4)
    with torch.no_grad():
        for parameter in vae.likelihood.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return vae.likelihood.double()


def ordinary(vocabulary=4, **options):
    torch.manual_seed(0)
    return NeuralAutoregressive(vocabulary, 2, hidden_dim=8, **options).double()


MAKE = {name: lambda name=name, **kw: injective(name, **kw) for name in HISTORIES}
MAKE["ordinary"] = ordinary
MAKE["noise units"] = lambda **kw: injective(
    base=torch.randint(4, (30, 6), generator=torch.Generator().manual_seed(0)), **kw
)


def all_sequences(vocabulary, length):
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


@pytest.mark.parametrize("name", MAKE)
def test_probabilities_of_all_sequences_add_up_to_one(name):
    likelihood = MAKE[name]()
    x, z = all_sequences(4, 3), torch.randn(5, 1, 2).double()
    log_prob = likelihood.condition(z, num_tokens=3).log_prob(x)
    assert log_prob.shape == (5, 64)
    torch.testing.assert_close(log_prob.logsumexp(-1), torch.zeros(5).double(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", table.SEQUENCE_LIKELIHOODS)
def test_those_of_the_table_are_laws_too(name):
    torch.manual_seed(0)
    likelihood = table.SEQUENCE_LIKELIHOODS[name]().double()
    log_prob = likelihood.condition(torch.randn(2).double(), num_tokens=3).log_prob(
        all_sequences(4, 3)
    )
    assert log_prob.logsumexp(-1).abs() < 1e-10


@pytest.mark.parametrize("name", MAKE)
def test_padding_counts_for_nothing(name):
    likelihood = MAKE[name]()
    z = torch.randn(16, 2).double()
    x = all_sequences(4, 2)
    padded = torch.cat([x, torch.randint(4, (16, 3))], -1)
    lengths = torch.full((16,), 2)
    found = likelihood.condition(z, num_tokens=5, lengths=lengths).log_prob(padded)
    torch.testing.assert_close(found, likelihood.condition(z, num_tokens=2).log_prob(x))
    nothing = likelihood.condition(z, num_tokens=5, lengths=0 * lengths).log_prob(padded)
    assert (nothing == 0).all()


@pytest.mark.parametrize("name", MAKE)
def test_an_end_mark_is_modelled_and_ends(name):
    likelihood = MAKE[name](end_token=0)
    z = torch.randn(2).double()
    x = all_sequences(4, 3)
    ended = (x == 0).long().cumsum(-1) - (x == 0).long() > 0
    assert not likelihood.counted(x, None)[ended].any()
    assert likelihood.counted(x, None)[~ended].all()
    distinct = x.masked_fill(ended, 0).unique(dim=0)  # what is after the end is all one
    log_prob = likelihood.condition(z, num_tokens=3).log_prob(distinct)
    assert log_prob.logsumexp(-1).abs() < 1e-10
    drawn = likelihood.condition(torch.randn(500, 2).double(), num_tokens=6).sample()
    after = (drawn == 0).long().cumsum(-1) > 0
    assert (drawn[after] == 0).all()
    assert after.any()


@pytest.mark.parametrize("name", MAKE)
def test_draws_have_the_probabilities_they_should(name):
    likelihood = MAKE[name]()
    z = torch.tensor([0.4, -0.7]).double()
    torch.manual_seed(0)
    n = 6000
    x = likelihood.condition(z, num_tokens=2).sample((n,))
    counts = torch.zeros(16)
    counts.index_add_(0, 4 * x[:, 0] + x[:, 1], torch.ones(n))
    wanted = likelihood.condition(z, num_tokens=2).log_prob(all_sequences(4, 2)).exp().float()
    error = (wanted * (1 - wanted) / n).sqrt()
    assert ((counts / n - wanted).abs() < LIMIT * error + 1e-3).all()


@pytest.mark.parametrize("name", MAKE)
def test_shapes_expansion_and_copies(name):
    likelihood = MAKE[name]()
    lengths = torch.tensor([3, 1, 0, 5])
    member = likelihood.condition(torch.randn(6, 4, 2).double(), num_tokens=5, lengths=lengths)
    assert (member.batch_shape, member.event_shape) == ((6, 4), (5,))
    x = member.sample((3,))
    assert x.shape == (3, 6, 4, 5)
    assert (x[..., 2, :] == 0).all()
    assert member.log_prob(x).shape == (3, 6, 4)
    large = member.expand((2, 6, 4))
    assert large.sample().shape == (2, 6, 4, 5)
    torch.testing.assert_close(large.log_prob(x[:2]), member.log_prob(x[:2]))
    for other in (copy.deepcopy(likelihood), pickle.loads(pickle.dumps(likelihood))):
        again = other.condition(member.z, num_tokens=5, lengths=lengths)
        torch.testing.assert_close(again.log_prob(x), member.log_prob(x))


@pytest.mark.parametrize("name", MAKE)
def test_blocks_without_gradients_give_the_same(name, monkeypatch):
    likelihood = MAKE[name]()
    z, x = torch.randn(6, 4, 2).double(), torch.randint(4, (4, 5))
    wanted = likelihood.condition(z, num_tokens=5).log_prob(x)
    monkeypatch.setattr("pyro_idvae.distributions.autoregressive.NUMBERS_AT_ONCE", 60)
    with torch.no_grad():
        found = likelihood.condition(z, num_tokens=5).log_prob(x)
    torch.testing.assert_close(found, wanted.detach())


@pytest.mark.parametrize("vocabulary", [10, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("history", HISTORIES)
def test_no_pair_of_latents_beats_the_floor_whatever_the_history(history, vocabulary):
    generator = torch.Generator().manual_seed(0)
    base = (vocabulary * torch.rand(40, 6, generator=generator) ** 3).long()
    likelihood = injective(history, vocabulary, base=base, smoothness=5.0)
    low, high = likelihood.lipschitz_bounds()
    tokens = torch.randint(vocabulary, (3, 6), generator=generator)
    contexts = likelihood.contexts(tokens).detach()
    for context in contexts[:, -1:]:
        few = {"num_starts": 4, "num_steps": 40} if vocabulary > 100 else {"num_steps": 60}
        least, most = lipschitz_search(
            lambda z, c=context: likelihood.eta(z, c).squeeze(-2), 2, **few
        )
        assert least >= low * (1 - 1e-6)
        assert most <= high * (1 + 1e-6)


def test_injective_logits_of_a_plain_softmax_promise_nothing():
    """Logits z·1 differ for all z, and have one distribution."""
    z = torch.linspace(-3, 3, 20).unsqueeze(-1)
    logits = z * torch.ones(5)
    assert torch.pdist(logits).min() > 0.1
    constant = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(constant.probs, torch.full((20, 5), 0.2))
    # The same line of parameters, of which none is redundant.
    likelihood = injective(vocabulary=5)
    contexts = likelihood.contexts(torch.zeros(1, 1, dtype=torch.long))
    with torch.no_grad():
        z = torch.randn(40, 1, 2).double()
        log_p = likelihood.logits(z, contexts).log_softmax(-1).flatten(1)
    assert torch.pdist(log_p).min() > 0.01


def test_the_history_of_a_token_is_what_stands_before_it():
    for history in HISTORIES:
        likelihood = injective(history)
        x = torch.randint(4, (3, 6))
        other = x.clone()
        other[:, 4:] = (x[:, 4:] + 1) % 4
        one, two = likelihood.contexts(x), likelihood.contexts(other)
        assert torch.equal(one[:, :5], two[:, :5])
        assert torch.equal(one[:, 5], two[:, 5]) == (history == "none")


@pytest.mark.parametrize("name", ["lstm", "ordinary"])
def test_words_are_left_out_in_training_only(name):
    likelihood = ordinary(dropout=0.5) if name == "ordinary" else injective("lstm", dropout=0.5)
    x = torch.randint(4, (30, 6))
    likelihood.train()
    assert not torch.equal(likelihood.contexts(x), likelihood.contexts(x))
    likelihood.eval()
    assert torch.equal(likelihood.contexts(x), likelihood.contexts(x))


def test_steps_out_of_training_are_those_of_the_network():
    likelihood = ordinary()
    z, x = torch.randn(5, 2).double(), torch.randint(4, (5, 6))
    found = [
        likelihood.train(mode).condition(z, num_tokens=6).log_prob(x) for mode in (True, False)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_temperature_and_top_k():
    likelihood = injective()
    z = torch.randn(50, 2).double()
    greedy = likelihood.generate(z, 4, temperature=0.0)
    assert torch.equal(greedy, likelihood.generate(z, 4, temperature=0.0))
    torch.testing.assert_close(greedy, likelihood.generate(z, 4, top_k=1))
    first = likelihood.logits(z, likelihood.contexts(greedy))[:, 0].argsort(-1, descending=True)
    two = likelihood.generate(z, 4, top_k=2)[:, 0]
    assert ((two == first[:, 0]) | (two == first[:, 1])).all()
    assert not torch.equal(two, greedy[:, 0])
    without = likelihood.generate(z, 4, without=[0, 2])
    assert not torch.isin(without, torch.tensor([0, 2])).any()
    assert set(range(likelihood.vocabulary_size)) - {0, 2} == set(without.flatten().tolist())
    for wrong in ([likelihood.vocabulary_size], range(likelihood.vocabulary_size), [-1]):
        with pytest.raises(ArgumentError, match="without="):
            likelihood.generate(z, 4, without=wrong)


def test_a_window_in_noise_units_is_what_is_asked_for():
    base = torch.randint(9, (200, 8))
    lengths = torch.randint(2, 9, (200,))
    for nats, options in ((0.3, {}), (None, {}), (0.3, {"output_hidden_dims": None})):
        vae = IDSVAE(9, 2, base=base, base_lengths=lengths, wanted_nats=nats, **options)
        wanted = math.sqrt(math.expm1(2 * (nats or 0.1)) / lengths.double().mean())
        low, high = vae.likelihood.lipschitz_bounds()
        assert wanted <= low * (1 + 1e-6)
        assert low < 2.5 * wanted
        assert high == math.inf
