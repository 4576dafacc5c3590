"""Whose parameters are trained: names, sharing, frozen parts, modes."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch.distributions import constraints

from pyro_idvae import fit
from pyro_idvae.distributions import InjectiveNormal
from pyro_idvae.errors import (
    ArgumentError,
)
from pyro_idvae.programs import claim_parameters
from pyro_idvae.transforms import brenier_injection
from tests.infer.common import ADAM, data, small


def test_two_models_with_the_same_parameter_names_both_learn():
    models = [small(seed) for seed in (0, 1)]
    names = []
    for vae in models:
        before = [p.detach().clone() for p in vae.parameters()]
        result = fit(
            vae.model, vae.guide, data(), optimizer=ADAM, num_epochs=30, seed=0, progress=False
        )
        assert result.losses[-1] < result.losses[0] - 0.5
        assert all(not torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
        names.append(set(result.parameters))
    assert names[0] == names[1]
    # And the first keeps what it has learned, whoever used its names since.
    kept = [p.detach().clone() for p in models[0].parameters()]
    fit(models[1].model, models[1].guide, data(), num_epochs=3, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(kept, models[0].parameters(), strict=True))


def test_pyro_modules_with_the_same_names_do_not_share():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.rate = PyroParam(torch.tensor(1.0), constraint=constraints.positive)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Exponential(self.rate), obs=x)

    x = torch.rand(200) + 0.1
    first, second = Model(), Model()
    for model, scale in ((first, 1.0), (second, 10.0)):
        fit(model, lambda x: None, x * scale, optimizer=ADAM, num_epochs=400, progress=False)
    assert first.rate.item() == pytest.approx(1 / x.mean().item(), rel=0.05)
    assert second.rate.item() == pytest.approx(0.1 / x.mean().item(), rel=0.05)


def test_one_name_for_two_modules_is_refused():
    first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def model(x):
        pyro.module("net", first)
        pyro.module("net", second)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(first(x) + second(x), 1.0).to_event(1), obs=x)

    with pytest.raises(ArgumentError, match="parameter name 'net"):
        fit(model, lambda x: None, torch.randn(5, 1), progress=False)

    class Half(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = PyroModule[torch.nn.Linear](1, 1)

        def forward(self, x):
            mean = self.net(x)
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    class Other(Half):
        def forward(self, x):
            self.net(x)

    with pytest.raises(ArgumentError, match="parameter name 'net"):
        fit(Half(), Other(), torch.randn(5, 1), progress=False)


def test_two_likelihoods_in_one_model_keep_their_own_parameters():
    torch.manual_seed(0)
    likelihoods = torch.nn.ModuleList(
        InjectiveNormal(brenier_injection(1, 2, [4]), scale=s, learn_scale=True) for s in (1.0, 5.0)
    )
    z, x = torch.randn(9, 1), torch.randn(9, 2)

    def model(x):
        with pyro.plate("data", len(x)):
            for name, likelihood in zip("ab", likelihoods, strict=True):
                pyro.sample(name, likelihood.condition(z), obs=x)

    for likelihood, scale in zip(likelihoods, (1.0, 5.0), strict=True):
        found = likelihood.condition(z).base_dist.scale
        assert torch.allclose(found, torch.tensor(scale))
    with pytest.raises(ArgumentError, match="two modules"):
        fit(model, lambda x: None, x, progress=False)

    def named(x):
        for name, likelihood in zip("ab", likelihoods, strict=True):
            pyro.module(name, likelihood)
        model(x)

    before = [p.detach().clone() for p in likelihoods.parameters()]
    result = fit(named, lambda x: None, x, num_epochs=2, progress=False)
    assert all(not torch.equal(p, q) for p, q in zip(before, likelihoods.parameters(), strict=True))
    # Each tensor once, whatever names it goes by: twice in an optimiser is two steps.
    assert len({id(p) for p in result.parameters.values()}) == len(result.parameters)

    class Both(PyroModule):
        def __init__(self):
            super().__init__()
            self.a, self.b = likelihoods

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("a_site", self.a.condition(z), obs=x)
                pyro.sample("b_site", self.b.condition(z), obs=x)

    both = Both()
    before = [p.detach().clone() for p in both.parameters()]
    fit(both, lambda x: None, x, num_epochs=2, progress=False)
    assert all(not torch.equal(p, q) for p, q in zip(before, both.parameters(), strict=True))


def test_module_local_parameters_are_refused_with_words():
    with pyro.settings.context(module_local_params=True):
        vae = small()
        with pytest.raises(ArgumentError, match="module_local_params"):
            fit(vae.model, vae.guide, data(), progress=False)


def test_frozen_parameters_and_modes_are_left_alone():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.fixed = PyroModule[torch.nn.Linear](1, 1)
            self.free = PyroModule[torch.nn.Linear](1, 1)
            self.norm = torch.nn.BatchNorm1d(1)

        def forward(self, x):
            mean = self.free(self.norm(self.fixed(x)))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    model = Model()
    model.fixed.requires_grad_(False)
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model, lambda x: None, torch.randn(9, 1), num_epochs=2, validation=0.3, progress=False)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"free.weight", "free.bias", "norm.weight", "norm.bias"}
    assert not model.fixed.weight.requires_grad
    assert not model.norm.training
    assert model.training


def test_the_mode_of_modules_is_given_back():
    vae = small()
    vae.eval()
    fit(vae.model, vae.guide, data(), num_epochs=1, progress=False)
    assert not vae.model.training
    assert not vae.guide.training


def test_two_pairs_of_likelihoods_that_share_an_injection():
    """One tensor has two names in Pyro's store; another pair has others under both."""

    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            shared = brenier_injection(2, 4, hidden_dims=[8])
            self.first, self.second = InjectiveNormal(shared), InjectiveNormal(shared, scale=2.0)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", self.first.condition(z), obs=x)
                pyro.sample("y", self.second.condition(z), obs=x)

    pyro.param("somebody_elses", torch.tensor(3.0))
    models = Model(), Model()
    for model in (*models, models[0]):
        found = claim_parameters(model, None, ((data(5),), {})).parameters
        own = {id(p) for p in model.parameters()}
        assert {id(p) for p in found.values()} == own
    assert pyro.get_param_store()["somebody_elses"].item() == 3.0
