"""Free bits."""

import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import FreeBits
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import Chain, close, refuses


class TestFreeBits(ObjectiveTestCase):
    def make(self):
        return FreeBits(0.3)

    def make_neutral(self):
        return FreeBits(0.0)

    def check_optimum(self):
        bed = LinearGaussian()
        bed.minimise(self.make())
        close(bed.rates(), bed.best_rates().clamp(min=0.3))


class TestFreeBitsByRow(TestFreeBits):
    def make(self):
        return FreeBits(0.3, groups="row")


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_what_counts_as_a_group(covariance):
    vae, x, losses = small(covariance=covariance), data(), []
    for nats in (50.0, 51.0):
        torch.manual_seed(0)
        losses.append(FreeBits(nats).loss(vae.model, vae.guide, x))
    # All is below the floor: a nat more costs a nat a group and row.
    groups = 2 if covariance == "diagonal" else 1
    assert losses[1] - losses[0] == pytest.approx(groups * len(x), rel=1e-3)


def test_below_the_floor_the_kl_has_no_gradient():
    vae, x = small(), data()
    FreeBits(1e3).loss_and_grads(vae.model, vae.guide, x)
    floored = [p.grad.clone() for p in vae.guide.parameters()]
    vae.zero_grad()
    torch.manual_seed(0)
    FreeBits(0.0).loss_and_grads(vae.model, vae.guide, x)
    assert any(
        not torch.allclose(a, p.grad) for a, p in zip(floored, vae.guide.parameters(), strict=True)
    )


def test_latents_that_are_drawn_at_once_are_refused():
    chain = Chain()
    guide = AutoMultivariateNormal(chain.model)
    with pytest.raises(ArgumentError, match="draws all its latents at once"):
        FreeBits().loss(chain.model, guide, chain.x)


def test_bad_options():
    refuses(FreeBits, "nats=-0.1: expected", nats=-0.1)
    refuses(FreeBits, "groups='pixel': expected one of", groups="pixel")
    refuses(FreeBits, "num_particles=0", num_particles=0)
    refuses(FreeBits, "vectorize_particles=1: expected a bool", vectorize_particles=1)
    refuses(FreeBits, "max_plate_nesting=-1", max_plate_nesting=-1)
