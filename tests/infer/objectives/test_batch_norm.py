"""Guides whose means are normalised."""

import math

import pytest
import torch
from scipy.optimize import brentq

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import BatchNorm
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import close, refuses


class TestBatchNorm(ObjectiveTestCase):
    def make(self):
        return BatchNorm(0.6)

    def check_optimum(self):
        # E μ² = γ² in every direction; the posterior variance v is where the slope is 0.
        bed, objective = LinearGaussian(), self.make()
        bed.minimise(objective, num_steps=200)
        guide = objective.trained_guide(bed.model, bed.guide, bed.x, bed.draws)
        for j, variance in enumerate(bed.variances.tolist()):
            v = brentq(lambda v, e=variance: e * 0.36 / (0.36 + v) ** 2 + 1 - 1 / v, 1e-6, 1 - 1e-9)
            close(bed.scales(guide)[j].square(), v)
            close(bed.rates(guide)[j], 0.5 * (0.36 + v - 1 - math.log(v)))


def test_means_of_a_batch_have_the_deviation():
    vae, x, objective = small(), data(), BatchNorm(0.7)
    (run,) = objective.runs(vae.model, vae.guide, ((x,), {}), training=True)
    loc = run.guide_trace.nodes["latent"]["fn"].base_dist.loc
    assert torch.allclose(loc.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(loc.std(0, correction=0), torch.full((2,), 0.7), rtol=1e-3)


def test_evaluations_use_running_averages():
    vae, x, objective = small(), data(), BatchNorm(momentum=0.5)
    for part in x.split(20):
        objective.loss_and_grads(vae.model, vae.guide, part)

    def means(rows):
        (run,) = objective.runs(vae.model, vae.guide, ((rows,), {}), training=False)
        return run.guide_trace.nodes["latent"]["fn"].base_dist.loc

    # Rows do not depend on what is evaluated with them.
    assert torch.allclose(means(x), torch.cat([means(part) for part in x.split(20)]), atol=1e-5)
    assert set(objective.state_dict()["running"]) == {"latent"}


def test_what_cannot_be_normalised_is_refused():
    vae, objective = small(), BatchNorm()
    with pytest.raises(ArgumentError, match="one row in this batch: BatchNorm takes"):
        objective.loss_and_grads(vae.model, vae.guide, data(1))
    with pytest.raises(ArgumentError, match="trained_guide needs the training data"):
        objective.trained_guide(vae.model, vae.guide)
    refuses(BatchNorm, "gamma=0", gamma=0)
    refuses(BatchNorm, "momentum=1", momentum=1)
