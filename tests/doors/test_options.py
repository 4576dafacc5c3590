"""Options that are out of range, each named before anything is sampled."""

from functools import cache

import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.infer import VectorizedHMC
from tests.doors.common import SHORT, data, small, told

X = data()


@cache
def vae():
    return small()


REFUSED = [
    (
        lambda: idvae.from_guide(vae().model, vae().guide, X, num_samples=0),
        ArgumentError,
        "num_samples=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.from_guide(vae().model, vae().guide, X, num_samples=2.5),
        ArgumentError,
        "num_samples=2.5: expected an integer of at least 1",
    ),
    (
        lambda: idvae.from_guide(vae().model, vae().guide, X, num_samples="a"),
        ArgumentError,
        "num_samples='a': expected an integer of at least 1",
    ),
    (
        lambda: idvae.from_guide(vae().model, vae().guide, X, num_samples=5, num_prior_samples=0),
        ArgumentError,
        "num_prior_samples=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.from_mcmc(
            {"latent": torch.zeros(1, 5, 7, 2)}, vae().model, X, num_limit_draws=-1
        ),
        ArgumentError,
        "num_limit_draws=-1: expected an integer of at least 0",
    ),
    (
        lambda: idvae.from_mcmc(
            {"latent": torch.zeros(1, 5, 7, 2)}, vae().model, X, num_prior_samples=-1
        ),
        ArgumentError,
        "num_prior_samples=-1: expected an integer of at least 1",
    ),
    (
        lambda: idvae.calibrate(vae().model, X),
        ArgumentError,
        "kernel is None and guide is None: expected a Pyro guide, or a kernel",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, kernel="nuts", guide=vae().guide),
        ArgumentError,
        "kernel='nuts' and a guide: expected one of the two",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, kernel="gibbs"),
        ArgumentError,
        "kernel='gibbs': expected one of hmc, nuts, vectorized",
    ),
    (
        lambda: idvae.calibrate(vae().model, kernel="nuts"),
        DataError,
        "data holds no tensor with rows but nothing",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, guide=vae().guide, num_replications=9),
        ArgumentError,
        "num_replications=9: expected an integer of at least 10",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, guide=vae().guide, num_draws=1),
        ArgumentError,
        "num_draws=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, guide=vae().guide, level=1.0),
        ArgumentError,
        "level=1.0: expected a finite number above 0 below 1",
    ),
    (
        lambda: idvae.calibrate(
            vae().model, X, guide=vae().guide, mcmc_options={"warmup_steps": 3}
        ),
        ArgumentError,
        "mcmc_options are for a kernel: a guide has no chains",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, kernel="nuts", mcmc_options=3),
        ArgumentError,
        "mcmc_options is a int: expected a dict",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, kernel="nuts", mcmc_options={"seed": 3}),
        ArgumentError,
        "mcmc_options has ['seed']: expected some of",
    ),
    (
        lambda: idvae.calibrate(vae().model, X, kernel="nuts", mcmc_options={"num_chains": 0}),
        ArgumentError,
        "num_chains=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, kernel="gibbs"),
        ArgumentError,
        "kernel='gibbs': expected one of hmc, nuts, vectorized",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, kernel=None),
        ArgumentError,
        "kernel=None: expected one of hmc, nuts, vectorized",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, num_samples=0),
        ArgumentError,
        "num_samples=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, num_chains=0),
        ArgumentError,
        "num_chains=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, warmup_steps=-1),
        ArgumentError,
        "warmup_steps=-1: expected an integer of at least 0",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, warmup_steps="a"),
        ArgumentError,
        "warmup_steps='a': expected an integer of at least 0",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, target_accept_prob=1.5),
        ArgumentError,
        "target_accept_prob=1.5: expected a finite number above 0 below 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, target_accept_prob="a"),
        ArgumentError,
        "target_accept_prob='a': expected a finite number above 0 below 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, start=3),
        ArgumentError,
        "start is a int: expected an AutoInjectiveLaplace guide",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, start=vae().guide),
        ArgumentError,
        "start is a VAEGuide: expected an AutoInjectiveLaplace guide",
    ),
    (
        lambda: idvae.mcmc(
            vae().model, X, kernel="vectorized", start=idvae.AutoInjectiveLaplace(vae().model)
        ),
        ArgumentError,
        "kernel='vectorized' runs all chains side by side and finds its own start: leave",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, kernel="vectorized", parallel=True),
        ArgumentError,
        "kernel='vectorized' runs all chains side by side and finds its own start: leave",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, kernel_options={"foo": 1}),
        ArgumentError,
        "kernel_options has ['foo']: the kernel 'nuts' takes ['adapt_mass_matrix',",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, kernel_options=3),
        ArgumentError,
        "kernel_options is a int: expected a dict, e.g. {'max_tree_depth': 6}",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, kernel="vectorized", block_size=0),
        ArgumentError,
        "block_size=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, block_size=10),
        ArgumentError,
        "block_size=10: the kernel 'nuts' samples all rows in one; take kernel='vectorized'",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, num_prior_samples=0, **SHORT),
        ArgumentError,
        "num_prior_samples=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.mcmc(vae().model, X, num_limit_draws=-1, **SHORT),
        ArgumentError,
        "num_limit_draws=-1: expected an integer of at least 0",
    ),
    (
        lambda: idvae.importance_log_likelihood(vae().model, vae().guide, X, num_samples=1),
        ArgumentError,
        "num_samples=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.importance_log_likelihood(vae().model, vae().guide, X, block_size=0),
        ArgumentError,
        "block_size=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.importance_log_likelihood(vae().model, vae().guide, X, block_size="a"),
        ArgumentError,
        "block_size='a': expected an integer of at least 1",
    ),
    (
        lambda: idvae.kl_to_prior(vae().model, vae().guide, X, site="z"),
        ArgumentError,
        "site='z': expected one of the latent sites ['latent']",
    ),
    (
        lambda: idvae.kl_to_prior(vae().model, vae().guide, X, site=3),
        ArgumentError,
        "site=3: expected one of the latent sites ['latent']",
    ),
    (
        lambda: idvae.active_units(vae().model, vae().guide, X, threshold=0),
        ArgumentError,
        "threshold=0: expected a finite number above 0",
    ),
    (
        lambda: idvae.active_units(vae().model, vae().guide, X, threshold="a"),
        ArgumentError,
        "threshold='a': expected a finite number above 0",
    ),
    (
        lambda: idvae.active_units(vae().model, vae().guide, X, num_samples=1),
        ArgumentError,
        "num_samples=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.active_units(vae().model, vae().guide, X, site="z"),
        ArgumentError,
        "site='z': expected one of the latent sites ['latent']",
    ),
    (
        lambda: idvae.active_units(vae().model, vae().guide, X[:1]),
        ArgumentError,
        "data has 1 row: active units need the variance over at least two",
    ),
    (
        lambda: idvae.certify(3),
        ArgumentError,
        "model is 3: expected a Pyro model, a function or a module",
    ),
    (
        lambda: idvae.certify(None),
        ArgumentError,
        "model is None: expected a Pyro model, a function or a module",
    ),
    (
        lambda: idvae.certify(vae().likelihood, X),
        ArgumentError,
        "x was given with a likelihood: pass the model with data",
    ),
    (
        lambda: idvae.certify(vae().model, X, num_samples=1),
        ArgumentError,
        "num_samples=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.certify(vae().model, X, num_samples="a"),
        ArgumentError,
        "num_samples='a': expected an integer of at least 2",
    ),
    (
        lambda: idvae.certify(small("bernoulli").likelihood, num_samples=1),
        ArgumentError,
        "num_samples=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.find_witness(vae().likelihood, X),
        ArgumentError,
        "x was given with a likelihood: pass the model with data",
    ),
    (
        lambda: idvae.find_witness(vae().likelihood, radius=0),
        ArgumentError,
        "radius=0: expected a finite number above 0",
    ),
    (
        lambda: idvae.find_witness(vae().likelihood, min_separation=100.0),
        ArgumentError,
        "min_separation=100.0: expected a finite number above 0 below 6.82843",
    ),
    (
        lambda: idvae.find_witness(vae().likelihood, num_starts=0),
        ArgumentError,
        "num_starts=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.find_witness(vae().likelihood, num_steps=0),
        ArgumentError,
        "num_steps=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.find_witness(vae().likelihood, learning_rate=0),
        ArgumentError,
        "learning_rate=0: expected a finite number above 0",
    ),
    (
        lambda: idvae.find_witness(3),
        ArgumentError,
        "model is a int and x=None: pass a model with its data x, or a Likelihood alone",
    ),
    (
        lambda: idvae.find_witness(vae().model, X, radius=-1.0),
        ArgumentError,
        "radius=-1.0: expected a finite number above 0",
    ),
    (
        lambda: idvae.find_witness(vae().model, X, min_separation=1e9, num_steps=1, num_starts=1),
        ArgumentError,
        "min_separation=1000000000.0: expected a finite number above 0 below 11.4833",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, epsilon=0),
        ArgumentError,
        "epsilon=0: expected a finite number above 0",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, confidence=1.5),
        ArgumentError,
        "confidence=1.5: expected a finite number above 0.5 below 1",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, share=0),
        ArgumentError,
        "share=0: expected a finite number above 0 below 1",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, num_samples=0),
        ArgumentError,
        "num_samples=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, num_chains="a"),
        ArgumentError,
        "num_chains='a': expected an integer of at least 1",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, num_steps=0),
        ArgumentError,
        "num_steps=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, mcmc_options={"foo": 1}),
        ArgumentError,
        "mcmc_options has ['foo']: expected some of ['block_size', 'jit_compile',",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, mcmc_options=3),
        ArgumentError,
        "mcmc_options is a int: expected a dict, {'kernel': 'nuts'}",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, mcmc_options={"kernel": "foo"}),
        ArgumentError,
        "kernel='foo': expected one of hmc, nuts, vectorized",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, mcmc_options={"warmup_steps": -1}),
        ArgumentError,
        "warmup_steps=-1: expected an integer of at least 0",
    ),
    (
        lambda: idvae.autopsy(vae().model, vae().guide, X, reference=3),
        DataError,
        "reference is 3: pass a Tensor with one row a data point, or a tuple or a dict",
    ),
    *(
        (
            lambda options=options: idvae.log_evidence(vae().model, vae().guide, X, **options),
            ArgumentError,
            message,
        )
        for options, message in (
            ({"proposal": None}, "proposal=None: expected one of laplace, guide, prior"),
            ({"bounds": ["both"]}, "bounds=['both']: expected one of lower, both"),
            ({"num_chains": 2.5}, "num_chains=2.5: expected an integer of at least 4"),
            ({"num_temperatures": 0}, "num_temperatures=0: expected an integer of at least 2"),
            ({"conditional_ess": 0}, "conditional_ess=0: expected a finite number above 0"),
            ({"num_leapfrog_steps": 0}, "num_leapfrog_steps=0: expected an integer"),
            ({"num_posterior_draws": 0}, "num_posterior_draws=0: expected an integer"),
            ({"num_elbo_samples": 1}, "num_elbo_samples=1: expected an integer of at least 2"),
            ({"block_size": 0}, "block_size=0: expected an integer of at least 1"),
            ({"latents": {"latent": X}}, "pass bounds='both' with them"),
            (
                {"latents": {"z": X}, "bounds": "both"},
                "latents lack the latent sites ['latent']",
            ),
        )
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, num_samples=1),
        ArgumentError,
        "num_samples=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, num_samples="a"),
        ArgumentError,
        "num_samples='a': expected an integer of at least 2",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, num_information_samples=1),
        ArgumentError,
        "num_information_samples=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, threshold=0),
        ArgumentError,
        "threshold=0: expected a finite number above 0",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, leave_out="evidence"),
        ArgumentError,
        "leave_out='evidence': expected some of ['certificate', 'evidence', 'information']",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, leave_out=["elbo"]),
        ArgumentError,
        "leave_out has ['elbo']: expected some of ['certificate', 'evidence',",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, evidence_options=3),
        ArgumentError,
        "evidence_options is a int: expected a dict, {'num_chains': 32}",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, evidence_options={"seed": 1}),
        ArgumentError,
        "evidence_options has ['seed']: expected some of ['block_size', 'bounds',",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, evidence_options={"num_chains": 0}),
        ArgumentError,
        "num_chains=0: expected an integer of at least 4",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, evidence_options={"proposal": "q"}),
        ArgumentError,
        "proposal='q': expected one of laplace, guide, prior",
    ),
    (
        lambda: idvae.evaluate(vae().model, vae().guide, X, evidence_options={"latents": {}}),
        ArgumentError,
        "latents are where the upper bound begins: pass bounds='both' with them",
    ),
    *(
        (
            lambda runs=runs, options=options: idvae.consistency(
                runs, **{"data": None if type(runs[0]) is torch.Tensor else X, **options}
            ),
            ArgumentError,
            message,
        )
        for runs, options, message in (
            ([vae(), vae()], {"data": None}, "data is None, but run 0 is a model and its guide"),
            ([X, X], {"data": X}, "data was given, but no run is a model with its guide: leave it"),
            ([X, X], {"num_samples": 1}, "num_samples=1: expected an integer of at least 2"),
            ([X, X], {"num_splits": 0}, "num_splits=0: expected an integer of at least 1"),
            ([X, X], {"threshold": -0.1}, "threshold=-0.1: expected a finite number of at least 0"),
            ([X, X], {"threshold": 1.0}, "threshold=1.0: expected a finite number of at least 0"),
            ([X, X], {"confidence": 1.0}, "confidence=1.0: expected a finite number above 0"),
            ([X, X], {"confidence": "a"}, "confidence='a': expected a finite number above 0"),
            ([X, X], {"var_names": 3}, "var_names=3: expected names of sites"),
            ([vae(), vae()], {"var_names": ["z"]}, "var_names=['z']: expected some of ['latent']"),
            ([vae(), vae()], {"var_names": []}, "var_names=[]: expected some of ['latent']"),
            ([X, X], {}, "the runs have 7 rows: expected at least 48"),
        )
    ),
    (
        lambda: idvae.AutoInjectiveLaplace(vae().model, num_steps=0),
        ArgumentError,
        "num_steps=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.AutoInjectiveLaplace(vae().model, num_steps="a"),
        ArgumentError,
        "num_steps='a': expected an integer of at least 1",
    ),
    (
        lambda: VectorizedHMC(vae().model, target_accept_prob=0),
        ArgumentError,
        "target_accept_prob=0: expected a finite number above 0 below 1",
    ),
    (
        lambda: VectorizedHMC(vae().model, block_size=0),
        ArgumentError,
        "block_size=0: expected an integer of at least 1",
    ),
    (
        lambda: VectorizedHMC(vae().model).sample({}),
        ArgumentError,
        "the kernel has no data yet: call setup, as MCMC.run does",
    ),
    (
        lambda: VectorizedHMC(vae().model).initial_params,
        ArgumentError,
        "the kernel has no data yet: call setup, as MCMC.run does",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_bad_arguments_are_named(call, kind, message):
    told(call, kind, message)


SEEDS = [2**40, 2**32, -1, True, 1.5, "0"]
SEEDED = {
    "mcmc": lambda seed: idvae.mcmc(vae().model, X, seed=seed, **SHORT),
    "autopsy": lambda seed: idvae.autopsy(vae().model, vae().guide, X, seed=seed),
    "evaluate": lambda seed: idvae.evaluate(vae().model, vae().guide, X, seed=seed),
    "log_evidence": lambda seed: idvae.log_evidence(vae().model, None, X, seed=seed),
    "assignments": lambda seed: idvae.assignments(vae().model, None, X, seed=seed),
    "consistency": lambda seed: idvae.consistency([vae(), vae()], X, seed=seed),
    "calibrate": lambda seed: idvae.calibrate(vae().model, X, guide=vae().guide, seed=seed),
    "witness": lambda seed: idvae.find_witness(vae().model, X, seed=seed),
    "witness of a likelihood": lambda seed: idvae.find_witness(vae().likelihood, seed=seed),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("function", SEEDED)
def test_seeds_that_no_generator_takes_are_named(function, seed):
    told(
        lambda: SEEDED[function](seed), ArgumentError, f"seed={seed!r}: expected an integer from 0"
    )


@pytest.mark.parametrize("seed", [2**40, -1, True, 1.5, "0", None])
def test_seeds_of_data_sets_too(seed):
    for make in (idvae.datasets.mixture_data, idvae.datasets.pca_data, idvae.datasets.digits):
        with pytest.raises(ValueError, match=r"expected an integer from 0 to 2\*\*32 - 1"):
            make(seed=seed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: idvae.datasets.mixture_data("far"), "regime='far': expected one of one cluster"),
        (lambda: idvae.datasets.mixture_data(3), "regime=3: expected one of"),
        (lambda: idvae.datasets.mixture_data(num_data=0), "num_data=0: expected an integer"),
        (lambda: idvae.datasets.mixture_data(num_data=2.5), "num_data=2.5: expected an integer"),
        (lambda: idvae.datasets.pca_data(data_dim=0), "data_dim=0: expected an integer"),
        (lambda: idvae.datasets.pca_data(scale=0.0), "scale=0.0: expected a finite number above 0"),
        (lambda: idvae.datasets.pca_data(signal="2"), "signal='2': expected a finite number"),
        (lambda: idvae.datasets.digits(num_test=0), "num_test=0: expected an integer"),
        (lambda: idvae.datasets.digits(num_test=1797), "num_test=1797: expected a number from 1"),
    ],
)
def test_data_sets_name_what_is_out_of_range(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value).startswith(message)
