"""Words that are left out at first."""

import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae import IDSVAE, WordDropout, fit
from pyro_idvae.distributions import InjectiveAutoregressive, NeuralAutoregressive
from pyro_idvae.errors import ArgumentError
from pyro_idvae.models import SequenceEncoder, SequentialVAE

TOKENS = torch.randint(6, (20, 5), generator=torch.Generator().manual_seed(0))


def make(kind):
    torch.manual_seed(0)
    if kind == "ordinary":
        return SequentialVAE(NeuralAutoregressive(6, 2, hidden_dim=8), SequenceEncoder(6, 2, 8))
    return IDSVAE(6, 2, kind, hidden_dim=8, encoder_hidden_dim=8)


def dropout_of(vae):
    likelihood = vae.likelihood
    inner = likelihood.history if isinstance(likelihood, InjectiveAutoregressive) else likelihood
    return inner.dropout


class Note(idvae.Callback):
    def __init__(self, vae):
        self.vae, self.rates = vae, [dropout_of(vae)]

    def on_epoch(self, progress):
        self.rates.append(dropout_of(self.vae))


@pytest.mark.parametrize("kind", ["lstm", "transformer", "ordinary"])
def test_it_falls_from_first_to_last_and_stays(kind):
    vae = make(kind)
    lower = WordDropout(vae.likelihood, first=0.8, last=0.2, hold=0.25, epochs=4)
    note = Note(vae)
    fit(vae.model, vae.guide, TOKENS, num_epochs=5, callbacks=[lower, note], progress=False)
    assert note.rates == pytest.approx([0.8, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_a_fit_goes_on_where_it_was():
    whole, halves = make("lstm"), make("lstm")
    options = {"seed": 0, "progress": False, "restore_best": False}
    steps = {"first": 0.9, "last": 0.1, "epochs": 4}
    lower = WordDropout(whole.likelihood, **steps)
    found = fit(whole.model, whole.guide, TOKENS, num_epochs=4, callbacks=[lower], **options)
    lower = WordDropout(halves.likelihood, **steps)
    first = fit(halves.model, halves.guide, TOKENS, num_epochs=2, callbacks=[lower], **options)
    again = WordDropout(halves.likelihood, **steps)
    assert dropout_of(halves) == 0.9
    second = fit(
        halves.model,
        halves.guide,
        TOKENS,
        num_epochs=2,
        callbacks=[again],
        resume=first,
        progress=False,
        restore_best=False,
    )
    assert second.losses == pytest.approx(found.losses)
    assert dropout_of(halves) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"first": 1.0}, "first=1.0"),
        ({"last": -0.1}, "last=-0.1"),
        ({"hold": 1.0}, "hold=1.0"),
        ({"epochs": 0}, "epochs=0"),
    ],
)
def test_wrong_arguments_are_named(wrong, named):
    with pytest.raises(ArgumentError, match=named):
        WordDropout(make("lstm").likelihood, **wrong)


def test_likelihoods_without_words_are_refused():
    vae = idvae.IDVAE(4, 2, hidden_dims=[8], encoder_hidden_dims=[8])
    with pytest.raises(ArgumentError, match="InjectiveBernoulli: expected a likelihood of seq"):
        WordDropout(vae.likelihood)


def test_histories_that_read_no_words_are_refused():
    with pytest.raises(ArgumentError, match="InjectiveAutoregressive: expected .* can be left out"):
        WordDropout(make("none").likelihood)
