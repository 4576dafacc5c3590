"""Models that used to break late: lifted ones, single numbers for all rows, none to begin at."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs import BoundModel
from tests.doors.common import SHORT, data

X = data()


class Regression(PyroModule):
    """Its parameters are read inside the plate."""

    def __init__(self):
        super().__init__()
        self.map = PyroModule[torch.nn.Linear](2, 5)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.map(z), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("event_dim", [0, 2])
def test_lifted_parameters_are_latents_for_all_rows(event_dim):
    prior = dist.Normal(torch.zeros(5, 2), 1.0).to_event(event_dim)
    model = poutine.lift(Regression(), prior={"map.weight": prior})
    bound = BoundModel(model, None, ((X,), {}))
    assert bound.row_place("map.weight") is None
    assert bound.row_place("z") == 0
    found = idvae.mcmc(model, X, **SHORT)
    assert found["posterior"]["map.weight"].shape == (2, 5, 5, 2)
    assert found["log_prior"]["map.weight"].shape == (2, 5)
    weight = torch.as_tensor(np.array(found["posterior"]["map.weight"])[1, 3])
    wanted = dist.Normal(0.0, 1.0).log_prob(weight).sum()
    assert float(found["log_prior"]["map.weight"][1, 3]) == pytest.approx(float(wanted), rel=1e-5)


def test_lifted_parameters_beside_discrete_sites_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            shift = pyro.param("shift", torch.tensor(0.0))
            pyro.sample("x", dist.Normal(y + shift, 1.0), obs=x)

    lifted = poutine.lift(model, prior={"shift": dist.Normal(0.0, 1.0)})
    with pytest.raises(ArgumentError, match=r"'shift' is in the plate 'data' but has one value"):
        idvae.mcmc(lifted, X[:, 0], **SHORT)


def test_a_single_number_for_all_rows_in_an_autopsy():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.1))
        pyro.sample("mean", dist.Normal(loc, 0.5))

    found = idvae.autopsy(
        model,
        guide,
        X[:, 0],
        num_samples=60,
        num_chains=2,
        num_steps=2,
        mcmc_options={"warmup_steps": 20},
        seed=0,
    )
    assert list(found.table.index) == ["mean"]
    assert len(pyro.get_param_store()) == 0
    assert idvae.from_guide(model, guide, X[:, 0], num_samples=3)["posterior"]["mean"].shape == (
        1,
        3,
    )
    assert len(idvae.find_witness(model, X[:, 0], num_steps=2, num_starts=2).values) == 1


@pytest.mark.parametrize("kernel", ["nuts", "hmc", "vectorized"])
def test_a_model_of_no_density_has_nowhere_to_begin(kernel):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("never", torch.where(z < 1e9, -torch.inf, 0.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(DataError, match="no start for the chains|not finite: check the data"):
        idvae.mcmc(model, X[:, 0], kernel=kernel, **SHORT)
