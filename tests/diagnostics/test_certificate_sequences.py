"""The certificate of sequences: an estimate from below, where the information is known."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.errors import DataError, NoCertificateError
from pyro_idvae.models import SequentialVAE

VOCABULARY, NUM_TOKENS, ROWS = 3, 3, 40
LIMIT = 4.0


def make(seed=0, end_token=None, **options):
    torch.manual_seed(seed)
    sizes = {"hidden_dim": 8, "encoder_hidden_dim": 8, "output_hidden_dims": None}
    return idvae.IDSVAE(VOCABULARY, 1, end_token=end_token, **sizes, **options)


def tokens(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (ROWS, NUM_TOKENS), generator=generator)


@torch.no_grad()
def information(likelihood, lengths=None):
    """Return I(z; x), x all sequences there are, z by quadrature; the mean over lengths."""
    if lengths is not None:
        sizes, times = lengths.unique(return_counts=True)
        parts = [information_of(likelihood.eval(), int(n)) if n else 0.0 for n in sizes]
        return float(np.average(parts, weights=times))
    return information_of(likelihood.eval(), NUM_TOKENS)


def information_of(likelihood, number):
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z = torch.as_tensor(nodes, dtype=torch.float32).reshape(-1, 1, 1)
    p_z = torch.as_tensor(weights / weights.sum())
    x = torch.cartesian_prod(*[torch.arange(VOCABULARY)] * number).reshape(-1, number)
    if likelihood.end_token is not None:  # the same sequence up to its end counts once
        counted = likelihood.counted(x, None)
        x = x.masked_fill(~counted, likelihood.end_token).unique(dim=0)
    log_p = likelihood.condition(z, num_tokens=number).log_prob(x).double()
    total = log_p.logsumexp(-1)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-5, rtol=0)
    mean = (p_z.unsqueeze(-1) * log_p.exp()).sum(0).log()
    return float((p_z.unsqueeze(-1) * log_p.exp() * (log_p - mean)).sum())


@pytest.mark.parametrize("case", ["whole", "lengths", "end mark", "dropout"])
def test_the_estimate_is_the_information_from_below(case):
    x = tokens()
    vae = make(
        end_token=2 if case == "end mark" else None, dropout=0.3 if case == "dropout" else 0.0
    )
    lengths = torch.arange(ROWS) % (NUM_TOKENS + 1) if case == "lengths" else None
    wanted = information(vae.likelihood, lengths)
    vae.train()
    torch.manual_seed(1)
    found = idvae.certify(vae.model, x if lengths is None else (x, lengths), num_samples=600)
    assert found.kind == "estimate"
    assert found.low == pytest.approx(wanted, abs=LIMIT * found.standard_error + 0.01)
    assert 0.2 < wanted < math.log(600)
    assert 0 < found.standard_error < 0.2 * wanted
    assert vae.likelihood.training
    text = str(found)
    assert "contrastive bound from 600 draws" in text
    assert ("the lengths are given" in text) == (case == "lengths")
    assert found.lipschitz_bounds == vae.likelihood.lipschitz_bounds()


def test_the_mean_of_many_is_not_above_the_information():
    vae = make(strong_convexity=3.0)
    wanted = information(vae.likelihood)
    low = []
    for seed in range(200):
        torch.manual_seed(seed)
        low.append(
            idvae.diagnostics.certificate.sequences.contrastive_bound(
                vae.likelihood, torch.randn(8, 1), 8, NUM_TOKENS, None
            )[0]
        )
    error = np.std(low, ddof=1) / math.sqrt(len(low))
    assert np.mean(low) < wanted + 3 * error
    # Few draws cannot tell more than which of them it was.
    assert max(low) <= math.log(8) + 1e-6


def test_noise_units_are_those_of_all_tokens():
    x = tokens()
    vae = make(base=x, wanted_nats=0.3)
    text = str(idvae.certify(vae.model, x, num_samples=50))
    near = 0.5 * math.log1p(NUM_TOKENS * vae.likelihood.lipschitz_bounds()[0] ** 2)
    assert near >= 0.3
    assert f"about {near:.2f} nat a latent near base rates" in text


class Shared(pyro.nn.PyroModule):
    def __init__(self):
        super().__init__()
        self.likelihood = make().likelihood

    def forward(self, x):
        z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            conditional = self.likelihood.condition(z.expand(len(x), 1), num_tokens=x.shape[-1])
            pyro.sample("x", conditional, obs=x)


class Peeking(Shared):
    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            lengths = (z.squeeze(-1) > 0).long() + 1
            conditional = self.likelihood.condition(z, num_tokens=x.shape[-1], lengths=lengths)
            pyro.sample("x", conditional, obs=x)


def ordinary():
    likelihood = idvae.distributions.NeuralAutoregressive(VOCABULARY, 1, hidden_dim=8)
    return SequentialVAE(likelihood, idvae.models.SequenceEncoder(VOCABULARY, 1, 8)).model


@pytest.mark.parametrize(
    ("model", "x", "named"),
    [
        (lambda: make().likelihood, None, "certify a model on its data"),
        (ordinary, tokens(), "NeuralAutoregressive is not identifiable"),
        (Shared, tokens(), "share a z"),
        (Peeking, tokens(), "'lengths' depends on z"),
    ],
    ids=["alone", "ordinary", "shared", "peeking"],
)
def test_what_has_no_certificate_says_why(model, x, named):
    with pytest.raises(NoCertificateError, match=named):
        idvae.certify(model(), x)


def test_weights_that_are_not_finite_are_named():
    vae = make()
    with torch.no_grad():
        vae.likelihood.output.weight[0, 0] = torch.nan
    with pytest.raises(NoCertificateError, match=r"output\.weight"):
        idvae.certify(vae.model, tokens())
    with pytest.raises(DataError, match="logits of token 0 are not finite"):
        vae.likelihood.generate(torch.zeros(2, 1), 3)
