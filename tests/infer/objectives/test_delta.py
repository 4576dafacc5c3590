"""Committed rates."""

import pytest
import torch

from pyro_idvae import collapse_report, from_guide, kl_to_prior
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import Delta
from pyro_idvae.infer.objectives.delta import scale_of_rate
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import Chain, close, refuses


class TestDelta(ObjectiveTestCase):
    def make(self):
        return Delta(0.2)

    def make_neutral(self):
        return Delta(0.0)

    def check_optimum(self):
        # With the posterior variance v at its most, E μ² = √(v·variance)/σ − v is best; where that
        # is negative the committed rate is all there is.
        bed, objective = LinearGaussian(variances=(4.0, 1.5, 0.5, 0.1)), self.make()
        bed.minimise(objective, num_steps=500)
        v = (1 / bed.variances).clamp(max=objective.max_scale**2)
        u = ((v * bed.variances).sqrt() - v).clamp(min=0.0)
        wanted = 0.5 * (u + v - 1 - v.log())
        found = bed.rates(objective.trained_guide(bed.model, bed.guide))
        close(found, wanted)
        close(found[3], 0.2)


class TestDeltaThatPushes(ObjectiveTestCase):
    def make(self):
        return Delta(0.2, max_scale=0.95)

    def make_neutral(self):
        return Delta(0.0)

    def check_optimum(self):
        bed, objective = LinearGaussian(), self.make()
        bed.minimise(objective)
        found = bed.rates(objective.trained_guide(bed.model, bed.guide))
        assert bool((found >= 0.2 - 1e-12).all())


@pytest.mark.parametrize("max_scale", [None, 0.3, 0.99, 3.0])
@pytest.mark.parametrize("nats", [0.01, 0.5, 3.0])
def test_every_row_and_coordinate_has_the_rate(nats, max_scale):
    objective = Delta(nats, max_scale=max_scale)
    generator = torch.Generator().manual_seed(0)
    loc = 3 * torch.randn(1000, generator=generator, dtype=torch.double)
    scale = (3 * torch.randn(1000, generator=generator, dtype=torch.double)).exp()
    loc[:10] = 0.0
    mean, wide = objective.change("z", loc, scale, 0)
    kl = 0.5 * (mean.square() + wide.square() - 1) - wide.log()
    assert float(kl.min()) >= nats * (1 - 1e-9)
    assert bool((wide <= objective.max_scale * (1 + 1e-12)).all())
    assert bool((mean * loc >= 0).all())


def test_the_largest_scale():
    for nats in (1e-6, 0.1, 20.0):
        scale = scale_of_rate(nats)
        found = 0.5 * (scale**2 - 1) - torch.tensor(scale, dtype=torch.double).log()
        assert float(found) == pytest.approx(nats, rel=1e-6)


def test_a_rate_is_no_information():
    """A guide of the same narrow Normal for all rows has the rate; the report is not fooled."""
    vae, x = small(), data(200)
    with torch.no_grad():
        for parameter in vae.encoder.network[-1].parameters():
            parameter.zero_()
    guide = Delta(0.5).trained_guide(vae.model, vae.guide)
    assert bool((kl_to_prior(vae.model, guide, x) >= 0.5 - 1e-6).all())
    assert "latent" in str(collapse_report(from_guide(vae.model, guide, x, num_samples=50)))


def test_other_priors_are_refused():
    chain = Chain()
    with pytest.raises(ArgumentError, match="the prior of 'second' is not N"):
        Delta().loss(chain.model, chain.guide, chain.x)


def test_bad_options():
    refuses(Delta, "nats=-1", nats=-1)
    refuses(Delta, "max_scale=0", max_scale=0)
