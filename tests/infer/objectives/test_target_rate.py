"""Rates that are driven to a target."""

import pytest
import torch
from scipy.optimize import brentq

from pyro_idvae.infer.objectives import TargetRate
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import close, refuses


class TestPenalty(ObjectiveTestCase):
    def make(self):
        return TargetRate(2.0, penalty=3.0)

    def make_neutral(self):
        return TargetRate(0.0, penalty=1.0)

    def check_optimum(self):
        for nats in (0.5, 2.0):
            bed = LinearGaussian()
            bed.minimise(TargetRate(nats, penalty=3.0))
            close(bed.rates().sum(), nats)


class TestLagrangian(ObjectiveTestCase):
    def make(self):
        return TargetRate(2.0, method="lagrangian")

    def make_neutral(self):
        return TargetRate(0.0, method="lagrangian")

    def check_optimum(self):
        bed, objective = LinearGaussian(), TargetRate(2.0, method="lagrangian", step_size=0.1)
        bed.minimise(objective, num_steps=600)
        # Water-filling: the rates of the β-VAE whose rates are C in all.
        weight = brentq(lambda w: float(bed.best_rates(w).sum()) - 2.0, 1e-3, 1e3)
        close(bed.rates(), bed.best_rates(weight))
        assert objective.multiplier.item() == pytest.approx(weight, rel=1e-3)


def test_the_target_rises():
    vae, x = small(), data()
    objective, seen = TargetRate(4.0, rise=4), []
    for _ in range(6):
        seen.append(float(objective.target))
        objective.loss_and_grads(vae.model, vae.guide, x)
    assert seen == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]
    assert objective.state_dict()["count"] == 6


def test_evaluations_are_of_the_last_target_and_of_no_multiplier():
    vae, x = small(), data()
    losses = []
    for options in ({}, {"rise": 100}, {"method": "lagrangian"}):
        objective = TargetRate(40.0, penalty=1.0, **options)
        objective.loss_and_grads(vae.model, vae.guide, x)
        torch.manual_seed(0)
        losses.append(objective.loss(vae.model, vae.guide, x))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_bad_options():
    refuses(TargetRate, "nats=-1", nats=-1)
    refuses(TargetRate, "method='hope': expected one of", method="hope")
    refuses(TargetRate, "penalty=0", penalty=0)
    refuses(TargetRate, "rise=-1", rise=-1)
    refuses(TargetRate, "step_size=-0.1", step_size=-0.1)
