"""Models whose density at a point is no number: they draw random numbers that are no sites."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, DataError
from tests.doors.common import SHORT, data, plain, plain_guide

X = data()
DROPOUT = nn.Dropout(0.5)


def dropped(x):
    """A module in training mode, which nobody was told of."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(DROPOUT(z), 1.0).to_event(1), obs=x)


def noisy(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z + 0.1 * torch.randn(5), 1.0).to_event(1), obs=x)


def noisy_prior(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.1 * torch.randn(5), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


SCORING = {
    "from_guide": lambda m: idvae.from_guide(m, plain_guide, X, num_samples=5),
    "from_mcmc": lambda m: idvae.from_mcmc({"z": torch.zeros(1, 4, 7, 5)}, m, X),
    "mcmc nuts": lambda m: idvae.mcmc(m, X, **SHORT),
    "mcmc vectorized": lambda m: idvae.mcmc(m, X, kernel="vectorized", **SHORT),
    "importance": lambda m: idvae.importance_log_likelihood(m, plain_guide, X, num_samples=5),
    "batches": lambda m: idvae.importance_log_likelihood(m, plain_guide, X, block_size=2),
    "autopsy": lambda m: idvae.autopsy(m, plain_guide, X),
    "evaluate": lambda m: idvae.evaluate(m, plain_guide, X),
    "log_evidence": lambda m: idvae.log_evidence(m, plain_guide, X),
    "assignments": lambda m: idvae.assignments(m, plain_guide, X),
    "calibrate": lambda m: idvae.calibrate(m, X, kernel="nuts"),
    "surface": lambda m: idvae.plot_likelihood_surface(m, X, num_points=3),
}


@pytest.mark.parametrize("model", [dropped, noisy, noisy_prior])
@pytest.mark.parametrize("function", SCORING)
def test_a_random_density_is_refused_before_anything_is_scored(function, model):
    site = "z" if model is noisy_prior else "x"
    with pytest.raises(ArgumentError, match=rf"'{site}' differs from call to call at one point"):
        SCORING[function](model)


def test_a_module_that_is_known_is_put_in_evaluation_mode():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.dropout(z), 1.0).to_event(1), obs=x)

    model = Model()
    for program in (model, model.forward):
        found = idvae.from_mcmc({"z": torch.zeros(1, 4, 7, 5)}, program, X)
        assert found["posterior"]["z"].shape == (1, 4, 7, 5)
    assert model.dropout.training


def test_densities_that_are_no_numbers_are_named():
    def broken(x):
        plain(x)
        with pyro.plate("data"):
            pass
        pyro.factor("penalty", torch.tensor(torch.inf) - torch.tensor(torch.inf))

    with pyro.validation_enabled(False), pytest.raises(DataError, match="'penalty' is NaN: check"):
        idvae.from_guide(broken, plain_guide, X)


def test_the_random_state_is_left_alone():
    state = torch.get_rng_state()
    idvae.from_mcmc({"z": torch.zeros(1, 4, 7, 5)}, plain, X, num_prior_samples=1)
    before = torch.get_rng_state()
    torch.set_rng_state(state)
    with pytest.raises(ArgumentError):
        SCORING["from_guide"](noisy)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(state, before)
