"""Encoders that are trained ahead."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI

from pyro_idvae import fit
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import Lagging
from pyro_idvae.testing import ObjectiveTestCase
from tests.infer.common import ADAM, data, small
from tests.infer.objectives.common import Chain, ends_at_the_elbo, refuses


class TestLagging(ObjectiveTestCase):
    def make(self):
        return Lagging(inner_steps=5, window=2, check_every=3)

    def make_neutral(self):
        return Lagging(inner_steps=0)

    def check_optimum(self):
        objective = self.make()
        ends_at_the_elbo(objective)
        assert not objective.aggressive


class TestLaggingThatDoesNot(ObjectiveTestCase):
    def make(self):
        return Lagging(inner_steps=0)

    make_neutral = make

    def check_optimum(self):
        ends_at_the_elbo(self.make())


def values(parameters):
    return [p.detach().clone() for p in parameters]


def moved(before, parameters):
    return [not torch.equal(a, b) for a, b in zip(before, parameters, strict=True)]


@pytest.mark.parametrize("kind", ["modules", "functions"])
def test_one_half_moves_at_a_time(kind):
    objective = Lagging(inner_steps=3, window=10, check_every=100)
    if kind == "modules":
        vae = small()
        model, guide, x = vae.model, vae.guide, data()
        halves = [list(guide.parameters()), list(model.parameters())]
    else:
        chain = Chain()
        model, guide, x = chain.model, chain.guide, chain.x
        guide(x), model(x)
        stored = dict(pyro.get_param_store().named_parameters())
        halves = [[stored["gain"]], [stored["weight"]]]
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), objective)
    turns = []
    for _ in range(12):
        before = [values(half) for half in halves]
        svi.step(x)
        turns.append([any(moved(b, half)) for b, half in zip(before, halves, strict=True)])
    # Three steps of the guide, one of the model; momentum moves nobody out of turn.
    assert turns == ([[True, False]] * 3 + [[False, True]]) * 3


def test_the_phase_ends_when_information_stops_rising(monkeypatch):
    objective = Lagging(inner_steps=1, window=1, check_every=2, patience=2)
    seen = iter([0.5, 0.7, 0.6, 0.65, 0.9])
    monkeypatch.setattr(
        "pyro_idvae.infer.objectives.lagging.mixture_information",
        lambda trace, name: (next(seen), 60),
    )
    vae, x = small(), data()
    steps = 0
    while objective.aggressive:
        objective.loss_and_grads(vae.model, vae.guide, x)
        steps += 1
    assert (objective.best, objective.information) == (0.7, 0.65)
    assert steps == 4 * 2 * 2
    assert objective.cap == math.log(60)


def test_information_at_its_cap_is_no_rise(monkeypatch):
    objective = Lagging(inner_steps=1, window=1, check_every=1)
    monkeypatch.setattr(
        "pyro_idvae.infer.objectives.lagging.mixture_information",
        lambda trace, name: (0.95 * math.log(60), 60),
    )
    vae, x = small(), data()
    for _ in range(2):
        objective.loss_and_grads(vae.model, vae.guide, x)
    assert not objective.aggressive


def test_the_mixture_is_of_the_training_data():
    vae = small()
    objective = Lagging(inner_steps=2, window=1, check_every=1, patience=100, rows=40)
    fit(
        vae.model,
        vae.guide,
        data(),
        objective=objective,
        batch_size=10,
        optimizer=ADAM,
        num_epochs=2,
        progress=False,
    )
    assert objective.cap == math.log(40)
    alone = Lagging(inner_steps=1, window=1, check_every=1)
    for _ in range(2):
        alone.loss_and_grads(vae.model, vae.guide, data(7))
    assert alone.cap == math.log(7)
    given = Lagging(inner_steps=1, window=1, check_every=1, data=data(30))
    for _ in range(2):
        given.loss_and_grads(vae.model, vae.guide, data(7))
    assert given.cap == math.log(30)


def test_information_is_that_of_two_clusters():
    from pyro_idvae.infer.objectives.mixture_information import mixture_information

    def guide(x):
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(x, 0.1))

    x = torch.tensor([-5.0, 5.0]).repeat(50)
    found, rows = mixture_information(pyro.poutine.trace(guide).get_trace(x), "it")
    assert rows == 100
    assert found == pytest.approx(math.log(2), abs=1e-4)
    with pytest.raises(ArgumentError, match="in no plate"):
        mixture_information(pyro.poutine.trace(lambda: pyro.sample("z", NORMAL)).get_trace(), "it")


NORMAL = dist.Normal(0.0, 1.0)


def test_bad_options():
    refuses(Lagging, "inner_steps=-1", inner_steps=-1)
    for name in ("window", "check_every", "patience"):
        refuses(Lagging, f"{name}=0", **{name: 0})
    refuses(Lagging, "rows=1", rows=1)


def test_each_fit_brings_its_own_rows():
    objective = Lagging(inner_steps=1, window=1, check_every=1, patience=100)
    for rows in (30, 50):
        vae = small()
        options = {"objective": objective, "num_epochs": 2, "progress": False}
        fit(vae.model, vae.guide, data(rows), **options)
        assert objective.cap == math.log(rows)
