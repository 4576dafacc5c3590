"""Guides that are refined for each row."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_idvae import evaluate
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import SemiAmortised
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import close, refuses


class TestSemiAmortised(ObjectiveTestCase):
    def make(self):
        return SemiAmortised(2)

    def make_neutral(self):
        return SemiAmortised(0)

    def check_optimum(self):
        bed, objective = LinearGaussian(), self.make()
        bed.minimise(objective, num_steps=150)
        best = (bed.variances - bed.noise**2).clamp(min=0.0).sqrt()
        close(bed.model.weight.detach().abs(), best)
        close(bed.rates(objective.trained_guide(bed.model, bed.guide)), bed.best_rates())


def test_steps_lead_to_the_exact_posterior():
    bed = LinearGaussian(variances=(4.0, 1.5))
    with torch.no_grad():
        bed.model.weight.copy_((bed.variances - 1.0).sqrt())
    guide = SemiAmortised(60, step_size=0.5).trained_guide(bed.model, bed.guide)
    close(bed.rates(guide), bed.best_rates(), 1e-4)
    close(bed.scales(guide).square(), 1 / bed.variances, 1e-4)


def test_a_batch_that_stands_for_more_rows_takes_the_same_steps():
    bed, objective = LinearGaussian(), SemiAmortised(3)
    x, draws = bed.x[:4], bed.draws[:4]
    small_one = objective.loss(bed.model, bed.guide, x, draws)
    assert objective.loss(bed.model, bed.guide, x, draws, 40) == pytest.approx(10 * small_one)


def test_the_refined_guide_is_better_and_can_be_judged():
    vae, x = small(), data()
    guide = SemiAmortised(8).trained_guide(vae.model, vae.guide)
    elbo = TraceMeanField_ELBO(num_particles=20)
    assert elbo.loss(vae.model, guide, x) < elbo.loss(vae.model, vae.guide, x) - 10
    found = evaluate(
        vae.model,
        guide,
        x,
        num_samples=4,
        num_information_samples=2,
        leave_out=["evidence"],
        seed=0,
    )
    assert np.isfinite(found.elbo.mean)
    assert np.isfinite(found.kl.mean)
    assert np.isfinite(found.mutual_information.mean)


def test_other_guides_are_refused():
    vae, x = small(covariance="full"), data()
    with pytest.raises(ArgumentError, match="from a MultivariateNormal: SemiAmortised is for"):
        SemiAmortised().loss(vae.model, vae.guide, x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("latent", dist.Laplace(torch.zeros(len(x), 2), 1.0).to_event(1))

    with pytest.raises(ArgumentError, match="'latent' from a Laplace"):
        SemiAmortised().loss(vae.model, guide, x)


def test_bad_options():
    refuses(SemiAmortised, "num_steps=-1", num_steps=-1)
    refuses(SemiAmortised, "step_size=0", step_size=0)
