"""Latents that are to be found again."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import LatentReconstruction
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import refuses


class TestLatentReconstruction(ObjectiveTestCase):
    def make(self):
        return LatentReconstruction(0.5)

    def make_neutral(self):
        return LatentReconstruction(0.0)


class TestOfTheGuidesDraws(TestLatentReconstruction):
    def make(self):
        return LatentReconstruction(0.5, source="guide")


def test_a_guide_that_inverts_the_decoder_loses_nothing():
    bed = LinearGaussian(variances=(4.0,))
    losses = []
    for gain in (1.0, 2.0):
        with torch.no_grad():
            bed.model.weight.fill_(0.5)
            bed.guide.gain.fill_(gain)
        plain, more = (
            LatentReconstruction(weight).loss(bed.model, bed.guide, bed.x, bed.draws)
            for weight in (0.0, 1.0)
        )
        losses.append(more - plain)
    assert losses[1] == pytest.approx(0.0, abs=1e-12)
    assert losses[0] > 0.01


def test_data_by_name_and_with_other_arguments():
    vae, x = small(), data()
    losses = []
    for args, kwargs in (((x,), {}), ((), {"x": x}), ((x, None, None), {})):
        torch.manual_seed(0)
        losses.append(LatentReconstruction().loss(vae.model, vae.guide, *args, **kwargs))
    assert losses == [losses[0]] * 3


def test_observations_that_are_no_argument_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=2 * x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))

    with pytest.raises(ArgumentError, match="no argument of the model is what 'x' observes"):
        LatentReconstruction().loss(model, guide, torch.ones(3))


def test_bad_options():
    refuses(LatentReconstruction, "weight=-1", weight=-1)
    refuses(LatentReconstruction, "source='posterior': expected one of", source="posterior")
    refuses(LatentReconstruction, "leave it out", vectorize_particles=True, num_particles=2)
