"""Sequential models and guides in Pyro and in everything of ours that takes a model."""

from functools import partial

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

import pyro_idvae as idvae
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.errors import ArgumentError, DataError, NotInjectiveError, ShapeError
from pyro_idvae.models import (
    IDSVAE,
    BayesianModel,
    SequenceEncoder,
    SequentialVAE,
    TransformerHistory,
)

SIZES = {"hidden_dim": 8, "encoder_hidden_dim": 8, "output_hidden_dims": [8]}
TOKENS = torch.randint(6, (20, 5), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.randint(1, 6, (20,), generator=torch.Generator().manual_seed(1))


def make(kind, **options):
    torch.manual_seed(0)
    if kind == "ordinary":
        likelihood = NeuralAutoregressive(6, 2, hidden_dim=8, **options)
        return SequentialVAE(likelihood, SequenceEncoder(6, 2, 8))
    return IDSVAE(6, 2, kind, **SIZES, **options)


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer", "none", "ordinary"])
def test_every_kind_trains(kind):
    vae = make(kind)
    found = idvae.fit(
        vae.model,
        vae.guide,
        (TOKENS, LENGTHS),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        num_epochs=60,
        batch_size=10,
        seed=0,
        progress=False,
    )
    assert min(found.losses[-5:]) < 0.8 * found.losses[0]


@pytest.mark.parametrize("kind", ["lstm", "transformer", "none", "ordinary"])
def test_all_weights_are_trained(kind):
    vae = make(kind)
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    pyro.clear_param_store()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    svi.step(TOKENS, LENGTHS)
    idle = [name for name, p in vae.named_parameters() if torch.equal(p, before[name])]
    # What no token that counts came through; g1 begins as a constant of its context.
    assert all("context" in n or "network.0" in n or "embedding" in n for n in idle), idle
    fitted = make(kind)
    idvae.fit(fitted.model, fitted.guide, (TOKENS, LENGTHS), num_epochs=3, progress=False)
    idle = [n for n, p in fitted.named_parameters() if torch.equal(p.detach(), before[n])]
    assert not idle


def test_weights_can_have_a_prior():
    vae = make("none")
    bayesian = BayesianModel(vae.model, prior=0.5)
    torch.manual_seed(3)
    trace = poutine.trace(bayesian).get_trace(TOKENS, LENGTHS)
    trace.compute_log_prob()
    own = vae.likelihood.log_prob_of(TOKENS, trace.nodes["latent"]["value"], LENGTHS)
    assert not torch.allclose(trace.nodes["obs"]["log_prob"], own)
    with torch.no_grad():
        for name, parameter in vae.model.named_parameters():
            parameter.copy_(trace.nodes[name]["value"])
    own = vae.likelihood.log_prob_of(TOKENS, trace.nodes["latent"]["value"], LENGTHS)
    torch.testing.assert_close(trace.nodes["obs"]["log_prob"], own)


def test_a_start_in_noise_units_is_near_the_tokens_own_rates():
    plain, based = make("lstm"), make("lstm", base=TOKENS, base_lengths=LENGTHS)
    losses = [
        idvae.fit(v.model, v.guide, (TOKENS, LENGTHS), num_epochs=1, progress=False).losses[0]
        for v in (plain, based)
    ]
    assert losses[1] < losses[0]
    by_rates = TOKENS[torch.arange(5) < LENGTHS[:, None]].bincount(minlength=6).double()
    entropy = -(by_rates / by_rates.sum()).log().mul(by_rates / by_rates.sum()).sum()
    assert losses[1] < 1.5 * float(entropy * LENGTHS.double().mean())


def test_plain_pyro_trains_it_and_it_can_be_saved(tmp_path):
    vae = make("lstm")
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    losses = [svi.step(TOKENS, LENGTHS) for _ in range(40)]
    assert min(losses[-5:]) < losses[0]
    idvae.save(tmp_path / "vae.safetensors", vae.model, vae.guide)
    other = make("lstm")
    idvae.load(tmp_path / "vae.safetensors", other.model, other.guide)
    for one, two in zip(vae.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["lstm", "ordinary"])
def test_samplers_reports_and_evidence_take_it(kind):
    vae, data = make(kind), (TOKENS, LENGTHS)
    short = {"num_samples": 60, "warmup_steps": 60, "num_chains": 2, "progress": False, "seed": 0}
    exact = idvae.mcmc(vae.model, data, kernel="vectorized", **short)
    svi = idvae.from_guide(vae.model, vae.guide, data, num_samples=60)
    assert set(idvae.collapse_report(exact).table.index) == {"latent[0]", "latent[1]"}
    assert len(idvae.compare(svi, exact).table) == 2 * len(TOKENS)
    found = idvae.log_evidence(vae.model, vae.guide, data, seed=0)
    weighed = idvae.importance_log_likelihood(vae.model, vae.guide, data, num_samples=5000)
    # Both are of the same marginal likelihood; the weighed one is a looser bound of it.
    assert found.mean > weighed.log_likelihood.mean() - 0.2
    assert abs(found.mean - weighed.log_likelihood.mean()) < 0.5
    predicted = idvae.calibrate(
        vae.model, TOKENS, LENGTHS, guide=vae.guide, num_replications=20, progress=False, seed=0
    )
    assert len(predicted.table)


@pytest.mark.slow
def test_an_autopsy_and_an_evaluation_take_it():
    vae, data = make("lstm"), (TOKENS, LENGTHS)
    found = idvae.autopsy(vae.model, vae.guide, data, num_samples=60, num_steps=30, seed=0)
    exact = found.table["exact"]
    assert ((found.table["free"] > 0.5 * exact) & (found.table["guide"] < exact)).all()
    judged = idvae.evaluate(vae.model, vae.guide, data, num_samples=50, seed=0)
    assert judged.certificate.kind == "estimate"
    # What the posteriors of these rows have is of these data: the certificate is of the model's.
    assert 0 < judged.certificate.low < 2 * judged.posterior_kl.mean


def test_evidence_of_wide_recurrent_networks():
    """Gradients in z through a recorded LSTM, out of training."""
    torch.manual_seed(0)
    likelihood = NeuralAutoregressive(6, 2, hidden_dim=100)
    found = idvae.log_evidence(
        idvae.SequentialVAE(likelihood, SequenceEncoder(6, 2, 8)).model,
        None,
        TOKENS,
        num_chains=4,
        num_temperatures=3,
        seed=0,
    )
    assert (found.lower < 0).all()


def test_encoders_read_what_counts_and_no_more():
    torch.manual_seed(0)
    encoder = SequenceEncoder(6, 2, 8)
    counted = torch.arange(5) < LENGTHS[:, None]
    found = encoder(TOKENS, counted).base_dist.loc
    other = TOKENS.masked_fill(~counted, 3)
    assert torch.equal(found, encoder(other, counted).base_dist.loc)
    alone = encoder(TOKENS[:1, : LENGTHS[0]]).base_dist.loc
    torch.testing.assert_close(found[:1], alone)
    nothing = encoder(TOKENS, torch.zeros_like(counted)).base_dist.loc
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        (lambda: IDSVAE(1, 1), ArgumentError, "vocabulary_size=1"),
        (lambda: IDSVAE(4, 4), NotInjectiveError, "latent_dim=4"),
        (lambda: IDSVAE(4, 2, wanted_nats=0.1), ArgumentError, "wanted_nats=0.1"),
        (
            lambda: IDSVAE(6, 2, base=TOKENS, wanted_nats=0.1, strong_convexity=1.0),
            ArgumentError,
            "wanted_nats=0.1",
        ),
        (lambda: IDSVAE(6, 2, dropout=1.0), ArgumentError, "dropout=1.0"),
        (lambda: TransformerHistory(6, 8, num_heads=3), ArgumentError, "num_heads=3"),
        (lambda: SequenceEncoder(6, 2, kind="rnn"), ArgumentError, "kind='rnn'"),
        (lambda: SequentialVAE(torch.nn.Linear(2, 2), None), ArgumentError, "likelihood is a"),
        (
            lambda: SequentialVAE(make("lstm").likelihood, SequenceEncoder(6, 3)),
            ShapeError,
            "latent_dim=3",
        ),
        (
            lambda: idvae.fit(make("lstm").model, make("lstm").guide, TOKENS + 3, num_epochs=1),
            DataError,
            "is no token",
        ),
        (
            lambda: idvae.mcmc(make("lstm").model, (TOKENS, LENGTHS + 5), num_samples=2),
            DataError,
            "from 0 to 5",
        ),
    ],
)
def test_wrong_arguments_are_named(wrong, error, named):
    with pytest.raises(error, match=named):
        wrong()
