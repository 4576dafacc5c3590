"""Importance-weighted bounds."""

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from pyro_idvae import fit, importance_log_likelihood
from pyro_idvae.infer.objectives import ImportanceWeighted
from pyro_idvae.testing import ObjectiveTestCase
from tests.infer.common import ADAM, data, small
from tests.infer.objectives.common import Chain, refuses


class TestImportanceWeighted(ObjectiveTestCase):
    def make(self):
        return ImportanceWeighted(2)

    def make_neutral(self):
        return ImportanceWeighted(1, doubly_reparametrised=False)

    def plain(self):
        return Trace_ELBO()


class TestOrdinaryGradients(ObjectiveTestCase):
    def make(self):
        return ImportanceWeighted(
            4, doubly_reparametrised=False, vectorize_particles=True, max_plate_nesting=1
        )

    def make_neutral(self):
        return ImportanceWeighted(1, doubly_reparametrised=False)

    def plain(self):
        return Trace_ELBO()


def trained():
    vae, x = small(), data()
    fit(vae.model, vae.guide, x, optimizer=ADAM, num_epochs=150, seed=0, progress=False)
    return vae.double(), x.double()


def test_the_bound_is_that_of_each_row():
    vae, x = trained()
    wanted = importance_log_likelihood(vae.model, vae.guide, x, num_samples=5000).mean
    many = ImportanceWeighted(5000, vectorize_particles=True)
    assert -many.loss(vae.model, vae.guide, x) / len(x) == pytest.approx(wanted, abs=0.02)


def gradients(objective, pair, parameters, repeats):
    (model, guide, x), found = pair, []
    for seed in range(repeats):
        pyro.set_rng_seed(seed)
        for parameter in parameters:
            parameter.grad = None
        objective.loss_and_grads(model, guide, x)
        found.append(torch.cat([p.grad.reshape(-1).clone() for p in parameters]))
    return torch.stack(found)


@pytest.mark.parametrize(("guided", "vectorize"), [("by hand", False), ("autoguide", True)])
def test_both_gradients_agree_on_average(guided, vectorize):
    """For a chain of latents, where draws follow from draws, and for helpers of an autoguide."""
    chain = Chain(rows=3)
    guide = chain.guide if guided == "by hand" else AutoNormal(chain.model, init_scale=0.7)
    guide(chain.x), chain.model(chain.x)
    parameters = chain.parameters()
    options = {"num_particles": 3, "vectorize_particles": vectorize}
    if vectorize:
        options["max_plate_nesting"] = 1
    repeats = 120
    doubly, ordinary = (
        gradients(
            ImportanceWeighted(doubly_reparametrised=flag, **options),
            (chain.model, guide, chain.x),
            parameters,
            repeats,
        )
        for flag in (True, False)
    )
    gap = doubly.mean(0) - ordinary.mean(0)
    error = ((doubly.var(0) + ordinary.var(0)) / repeats).sqrt()
    assert bool((gap.abs() <= 4.5 * error + 1e-9).all()), (gap, error)


def test_the_guides_gradient_has_less_noise():
    vae, x = trained()
    parameters = list(vae.guide.parameters())
    noise = [
        gradients(
            ImportanceWeighted(64, doubly_reparametrised=flag, vectorize_particles=True),
            (vae.model, vae.guide, x),
            parameters,
            25,
        )
        .var(0)
        .sum()
        for flag in (True, False)
    ]
    assert noise[0] < 0.5 * noise[1]


def test_one_draw_of_plain_functions_is_the_elbo():
    chain = Chain()
    losses = []
    for objective in (ImportanceWeighted(1), Trace_ELBO()):
        pyro.set_rng_seed(0)
        losses.append(objective.loss_and_grads(chain.model, chain.guide, chain.x))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_bad_options():
    refuses(ImportanceWeighted, "num_particles=0", num_particles=0)
    refuses(ImportanceWeighted, "doubly_reparametrised='yes'", doubly_reparametrised="yes")
