import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC

from pyro_idvae import IDVAE, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.infer.pyro_kernels import PYRO_KERNELS

X = torch.tensor([0.5, -1.0, 3.0])
OPTIONS = {"num_samples": 20, "warmup_steps": 20, "num_chains": 2, "seed": 4, "progress": False}


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_chains_in_processes_of_their_own_are_the_same_chains():
    torch.manual_seed(0)
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.randn(2, 4)
    in_order, parallel = (
        groups_of(mcmc(vae.model, x, parallel=parallel, **OPTIONS)) for parallel in (False, True)
    )
    np.testing.assert_allclose(
        in_order["posterior"]["latent"], parallel["posterior"]["latent"], rtol=1e-4, atol=1e-4
    )
    for name in ("energy", "step_size", "acceptance_rate"):
        first, second = (side["sample_stats"][name] for side in (in_order, parallel))
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)
    chains = in_order["posterior"]["latent"].values
    assert not np.array_equal(chains[0], chains[1])


def test_a_model_that_cannot_be_sent_away_is_sampled_in_order_said_once():
    offset = torch.tensor(1.0)

    def local(x):
        model(x + offset)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = groups_of(mcmc(local, X, parallel=True, **OPTIONS))
    said = [w for w in caught if "one after the other" in str(w.message)]
    assert len(said) == 1
    assert said[0].filename == __file__
    assert found["posterior"]["z"].shape == (2, 20, 3)


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_compiled_kernels_give_the_posterior(kernel):
    options = {**OPTIONS, "num_samples": 300, "warmup_steps": 150}
    # A whole period of the Normal's orbits, HMC's default here, would hardly move.
    own = {"trajectory_length": 1.5} if kernel == "hmc" else {}
    found = groups_of(
        mcmc(model, X, kernel=kernel, jit_compile=True, kernel_options=own, **options)
    )
    draws = found["posterior"]["z"].values
    assert (abs(draws.mean((0, 1)) - X.numpy() / 2) < 0.2).all()
    assert (abs(draws.var((0, 1)) - 0.5) < 0.2).all()


@pytest.mark.slow
def test_compiled_trajectories_are_the_same_as_plain_ones():
    torch.manual_seed(0)
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.randn(20, 4)
    plain, compiled = (
        groups_of(mcmc(vae.model, x, kernel="vectorized", jit_compile=jit, **OPTIONS))
        for jit in (False, True)
    )
    first, second = (side["posterior"]["latent"].values[:, 0] for side in (plain, compiled))
    np.testing.assert_allclose(first, second, rtol=1e-2, atol=1e-2)


def funnel(x):
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, (v / 2).exp()))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_chains_and_their_divergences_are_those_of_pyro(kernel):
    options = {"step_size": 0.5, "adapt_step_size": False}
    found = groups_of(
        mcmc(funnel, X, kernel=kernel, kernel_options=options, **{**OPTIONS, "num_chains": 1})
    )
    # The chain's seed is the first number after the caller's.
    torch.manual_seed(OPTIONS["seed"])
    torch.manual_seed(int(torch.randint(2**30, ())))
    own = PYRO_KERNELS[kernel](funnel, target_accept_prob=0.8, **options)
    pyros = MCMC(own, num_samples=20, warmup_steps=20, disable_progbar=True)
    pyros.run(X)
    for name, values in pyros.get_samples(group_by_chain=True).items():
        np.testing.assert_array_equal(found["posterior"][name], values)
    diverging = np.flatnonzero(found["sample_stats"]["diverging"].values[0]).tolist()
    assert diverging == pyros.diagnostics()["divergences"]["chain 0"]
    assert diverging
