"""What public functions do to random states and to Pyro's parameter store.

Deterministic ones leave all of them alone. Random ones draw from torch's generator, and leave
numpy's and Python's as they were.
"""

import random
from contextlib import contextmanager
from functools import cache, partial

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_idvae as idvae
from pyro_idvae import datasets
from pyro_idvae.arviz_io import groups_of, save_netcdf

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
COUNTS = (X > 0).float()
# One chain, as two that are so short disagree and are weighed, which takes longer than the rest.
BRIEF = {
    "num_samples": 20,
    "num_chains": 1,
    "num_steps": 3,
    "mcmc_options": {"warmup_steps": 30},
}


def states():
    kind, words, *rest = np.random.get_state()  # noqa: NPY002
    store = {name: value.tolist() for name, value in pyro.get_param_store().named_parameters()}
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (kind, words.tolist(), *rest),
        "random": random.getstate(),
        "store": store,
    }


@contextmanager
def leaving(*kinds):
    pyro.set_rng_seed(11)
    before = states()
    yield
    plt.close("all")
    after = states()
    changed = [kind for kind in kinds or before if before[kind] != after[kind]]
    assert not changed, f"changed: {', '.join(changed)}"


@cache
def small(family="normal"):
    torch.manual_seed(0)
    return idvae.IDVAE(4, 2, family, hidden_dims=[6], encoder_hidden_dims=[6])


def program(x):
    """A model with a parameter in Pyro's store."""
    scale = pyro.param("scale", torch.tensor(0.7), constraint=constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), scale).to_event(1), obs=x)


def guide(x):
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))


@cache
def drawn():
    pair = small()
    return (
        idvae.from_guide(pair.model, pair.guide, X, num_samples=50),
        idvae.mcmc(
            pair.model, X, kernel="vectorized", num_samples=40, num_chains=2, progress=False
        ),
    )


@cache
def trained():
    pair = small("bernoulli")
    return idvae.fit(pair.model, pair.guide, COUNTS, num_epochs=1, progress=False)


DETERMINISTIC = {
    "certify a likelihood": lambda path: idvae.certify(small().likelihood),
    "certify a model": lambda path: idvae.certify(small().model, X),
    "certify an estimate": lambda path: idvae.certify(small("bernoulli").model, COUNTS),
    "collapse_report of a guide": lambda path: idvae.collapse_report(drawn()[0]),
    "collapse_report of chains": lambda path: idvae.collapse_report(drawn()[1]),
    "compare": lambda path: idvae.compare(*drawn()),
    "consistency": lambda path: idvae.consistency(
        [small(), (program, guide)], torch.cat([X] * 4)[:, :1].expand(-1, 4), threshold=0.0
    ),
    "consistency of draws": lambda path: idvae.consistency([X.repeat(4, 1)] * 2),
    "find_witness of a likelihood": lambda path: idvae.find_witness(
        small().likelihood, num_starts=2, num_steps=3
    ),
    "find_witness of a model": lambda path: idvae.find_witness(
        program, X[:, :1], num_starts=2, num_steps=3
    ),
    "lipschitz_bounds_for": lambda path: idvae.lipschitz_bounds_for(
        low=0.5, high=3.0, latent_dim=2
    ),
    "discrete_information": lambda path: idvae.discrete_information(
        torch.full((3, 2), 0.5), torch.full((2,), 0.5)
    ),
    "kl_to_prior": lambda path: idvae.kl_to_prior(small().model, small().guide, X),
    "active_units": lambda path: idvae.active_units(small().model, small().guide, X),
    "plot_collapse": lambda path: idvae.plot_collapse(idvae.collapse_report(drawn()[1])),
    "plot_compare": lambda path: idvae.plot_compare(*drawn()),
    "plot_consistency": lambda path: idvae.plot_consistency(
        idvae.consistency([X.repeat(4, 1), X.repeat(4, 1)], threshold=0.0)
    ),
    "plot_prior_posterior": lambda path: idvae.plot_prior_posterior(drawn()[0]),
    "plot_losses": lambda path: idvae.plot_losses(trained()),
    "plot_rate_window": lambda path: idvae.plot_rate_window(idvae.certify(small().likelihood)),
    "plot_transport": lambda path: idvae.plot_transport(small().likelihood.injection),
    "plot_latent_walk": lambda path: idvae.plot_latent_walk(small().likelihood, torch.zeros(2)),
    "plot_likelihood_surface": lambda path: idvae.plot_likelihood_surface(
        small().model, X, num_points=5
    ),
    "plot_likelihood_surface of a program": lambda path: idvae.plot_likelihood_surface(
        program, X[:, :1], num_points=5
    ),
    "save_netcdf": lambda path: save_netcdf(drawn()[0], path / "draws.nc"),
    "save": lambda path: idvae.save(path / "pair.pt", small().model, small().guide),
    "load": lambda path: idvae.load(
        idvae.save(path / "pair.pt", small().model, small().guide),
        small().model,
        small().guide,
    ),
    "digits": lambda path: datasets.digits(),
    "mixture_data": lambda path: datasets.mixture_data(num_data=20),
    "pca_data": lambda path: datasets.pca_data(num_data=20),
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_deterministic_function_leaves_every_state_alone(name, tmp_path):
    drawn(), trained()
    with leaving():
        DETERMINISTIC[name](tmp_path)


def chains(kernel, **options):
    return idvae.mcmc(
        small().model,
        X[:2],
        kernel=kernel,
        num_samples=4,
        warmup_steps=3,
        num_chains=2,
        progress=False,
        **options,
    )


SHALLOW = {"num_chains": 4, "num_temperatures": 2}
RANDOM = {
    "from_guide": lambda: idvae.from_guide(
        small().model, small().guide, X, num_samples=5, posterior_predictive=True
    ),
    "from_mcmc": lambda: idvae.from_mcmc({"latent": torch.zeros(2, 20, 12, 2)}, small().model, X),
    "importance_log_likelihood": lambda: idvae.importance_log_likelihood(
        small().model, small().guide, X, num_samples=5
    ),
    "mcmc by nuts": partial(chains, "nuts"),
    "mcmc by nuts, seeded": partial(chains, "nuts", seed=3),
    "mcmc by hmc, seeded": partial(chains, "hmc", seed=3, kernel_options={"num_steps": 2}),
    "mcmc by rows, seeded": partial(chains, "vectorized", seed=3),
    "calibrate a kernel": lambda: idvae.calibrate(
        small().model,
        X,
        kernel="vectorized",
        num_replications=10,
        num_draws=4,
        mcmc_options={"warmup_steps": 3},
        progress=False,
    ),
    "calibrate a guide, seeded": lambda: idvae.calibrate(
        small().model, X, guide=small().guide, num_replications=10, num_draws=4, seed=3
    ),
    "fit": lambda: idvae.fit(small().model, small().guide, X, num_epochs=2, progress=False),
    "fit, seeded": lambda: idvae.fit(
        small().model,
        small().guide,
        X,
        num_epochs=2,
        batch_size=4,
        validation=0.25,
        seed=3,
        progress=False,
    ),
    "fit of a program": lambda: idvae.fit(
        program, guide, X[:, :1], num_epochs=2, seed=3, progress=False
    ),
    "log_evidence": lambda: idvae.log_evidence(
        small().model, small().guide, X, bounds="both", **SHALLOW
    ),
    "evaluate": lambda: idvae.evaluate(
        small().model, small().guide, X, num_samples=5, evidence_options=SHALLOW
    ),
    "evaluate, seeded": lambda: idvae.evaluate(
        small().model, small().guide, X, num_samples=5, evidence_options=SHALLOW, seed=3
    ),
    "autopsy": lambda: idvae.autopsy(small().model, small().guide, X, **BRIEF),
    "autopsy, seeded": lambda: idvae.autopsy(small().model, small().guide, X, **BRIEF, seed=3),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_function_leaves_the_states_of_numpy_and_python_alone(name):
    with leaving("numpy", "random"):
        RANDOM[name]()


def test_draws_of_a_guide_come_from_the_state_of_torch_alone():
    pair = small()
    draw = partial(idvae.from_guide, pair.model, pair.guide, X, num_samples=5)
    found = []
    for noise in (1, 2):
        np.random.seed(noise)  # noqa: NPY002
        random.seed(noise)
        torch.manual_seed(0)
        found.append(groups_of(draw())["posterior"]["latent"].values)
    np.testing.assert_array_equal(*found)
    assert (groups_of(draw())["posterior"]["latent"].values != found[0]).any()


def test_programs_that_have_not_run_leave_no_parameters_behind():
    for look in (
        lambda: idvae.kl_to_prior(program, guide, X[:, :1]),
        lambda: idvae.find_witness(program, X[:, :1], num_starts=2, num_steps=3),
        lambda: idvae.plot_likelihood_surface(program, X[:, :1], num_points=5),
        lambda: idvae.evaluate(program, guide, X[:, :1], num_samples=5, leave_out=["evidence"]),
        lambda: idvae.log_evidence(program, guide, X[:, :1], **SHALLOW),
    ):
        pyro.clear_param_store()
        with leaving("store"):
            look()
        assert not list(pyro.get_param_store().keys())
