"""KL annealing, and its schedules."""

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO

from pyro_idvae import fit
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import Annealed, Cyclical, FreeBits, Linear
from pyro_idvae.testing import ObjectiveTestCase
from tests.infer.common import data, small
from tests.infer.objectives.common import ends_at_the_elbo, refuses


class TestAnnealed(ObjectiveTestCase):
    def make(self):
        return Annealed("cyclical", length=20, cycles=2)

    def make_neutral(self):
        return Annealed(lambda step: 1.0, elbo=TraceMeanField_ELBO())

    def check_optimum(self):
        ends_at_the_elbo(Annealed("linear", length=100, elbo=TraceMeanField_ELBO()))


def test_cycles_rise_from_nothing_and_end_at_one():
    weights = [Cyclical(20, cycles=2, rise=0.5)(step) for step in range(25)]
    assert weights[:10] == weights[10:20]
    assert weights[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert weights[4:10] == [1.0] * 6
    assert weights[20:] == [1.0] * 5
    uneven = [Cyclical(10, cycles=3, rise=1.0)(step) for step in range(10)]
    assert all(0 < weight <= 1 for weight in uneven)


def test_steps_are_counted_under_plain_svi():
    vae, x = small(), data()
    annealed = Annealed("linear", length=4, elbo=TraceMeanField_ELBO())
    svi, seen = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-9}), annealed), []
    for _ in range(6):
        svi.step(x)
        seen.append(annealed.weight.item())
        svi.evaluate_loss(x)
        assert annealed.weight.item() == 1.0
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    annealed.restart()
    assert annealed.training_weight() == 0.25


def test_any_function_is_a_schedule():
    vae, x = small(), data()
    annealed = Annealed(lambda step: 0.1 * step)
    annealed.loss_and_grads(vae.model, vae.guide, x)
    assert annealed.weight.item() == 0.0
    annealed.loss_and_grads(vae.model, vae.guide, x)
    assert annealed.weight.item() == pytest.approx(0.1)
    for bad in (lambda step: -1.0, lambda step: float("nan"), lambda step: 1j):
        with pytest.raises(ArgumentError, match=r"schedule\(0\) returned"):
            Annealed(bad).loss_and_grads(vae.model, vae.guide, x)


def test_epochs_are_told_by_fit_to_what_is_inside_too():
    inner = Annealed("linear", length=2, unit="epochs", elbo=FreeBits(0.1))
    outer = Annealed(lambda step: 1.0, elbo=inner)
    vae = small()
    fit(vae.model, vae.guide, data(), objective=outer, num_epochs=2, batch_size=20, progress=False)
    assert inner.count == 1
    assert outer.count == 6


def test_bad_options():
    refuses(Annealed, "unit='days': expected one of", unit="days")
    refuses(Annealed, "schedule='quick': expected 'linear', 'cyclical'", schedule="quick")
    refuses(Annealed, "length=0: expected an integer", length=0)
    refuses(Linear, "length=1.5", length=1.5)
    refuses(Cyclical, "rise=1.5: expected a share", length=10, rise=1.5)
    refuses(Cyclical, "cycles=9 in length=5", length=5, cycles=9)
    with pytest.raises(ArgumentError, match="epoch=-1"):
        Annealed(unit="epochs").begin_epoch(-1)


def test_weights_of_a_step_already_taken_stay_in_its_graph():
    vae, x = small(), data()
    annealed = Annealed("linear", length=2, elbo=TraceMeanField_ELBO())
    first = annealed.differentiable_loss(vae.model, vae.guide, x)
    annealed.differentiable_loss(vae.model, vae.guide, x)
    first.backward()
    assert all(torch.isfinite(p.grad).all() for p in vae.guide.parameters())
