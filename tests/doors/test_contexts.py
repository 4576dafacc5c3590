"""Under no_grad and inference_mode all is as without: gradients are had where they are needed."""

import pyro
import pytest
import torch
from pyro.infer import MCMC

import pyro_idvae as idvae
from tests.doors.common import SHORT, data, small, small_mixture

X = data()
FEW = {"num_samples": 20, "num_chains": 1, "num_steps": 2, "mcmc_options": {"warmup_steps": 5}}
SHALLOW = {"num_samples": 9, "evidence_options": {"num_chains": 4, "num_temperatures": 3}}
NUMBERS = ["evidence", "elbo", "kl", "active_units", "mutual_information", "window_low"]


def sampled(vae, x, **options):
    return idvae.mcmc(vae.model, x, seed=0, **SHORT, **options)["posterior"]["latent"].values


def by_kernel(vae, x):
    torch.manual_seed(0)
    sampler = MCMC(idvae.VectorizedHMC(vae.model), 3, 3, disable_progbar=True)
    sampler.run(x)
    return sampler.get_samples()["latent"]


def drawn(vae, x, guide=None):
    torch.manual_seed(0)
    found = idvae.from_guide(vae.model, guide or vae.guide, x, num_samples=5)
    return found["posterior"]["latent"].values


def weighed(vae, x):
    torch.manual_seed(0)
    return idvae.importance_log_likelihood(vae.model, vae.guide, x, num_samples=9).log_likelihood


CALLS = {
    "nuts": sampled,
    "hmc": lambda v, x: sampled(v, x, kernel="hmc", kernel_options={"num_steps": 2}),
    "vectorized": lambda v, x: sampled(v, x, kernel="vectorized"),
    "kernel": by_kernel,
    "from_guide": drawn,
    "laplace guide": lambda v, x: drawn(v, x, idvae.AutoInjectiveLaplace(v.model)),
    "laplace": lambda v, x: idvae.AutoInjectiveLaplace(v.model).start(x).loc,
    "importance": weighed,
    "kl_to_prior": lambda v, x: idvae.kl_to_prior(v.model, v.guide, x).detach(),
    "active_units": lambda v, x: idvae.active_units(v.model, v.guide, x),
    "certify": lambda v, x: idvae.certify(v.model, x).low,
    "autopsy": lambda v, x: (
        idvae.autopsy(v.model, v.guide, x, seed=0, **FEW).table["exact"].tolist()
    ),
    "log_evidence": lambda v, x: idvae.log_evidence(
        v.model, v.guide, x, num_chains=4, num_temperatures=2, seed=0
    ).lower.tolist(),
    "assignments": lambda v, x: idvae.assignments(
        v.model, v.guide, x, num_chains=4, num_temperatures=2, seed=0
    ).exact.tolist(),
    "evaluate": lambda v, x: list(
        idvae.evaluate(v.model, v.guide, x, seed=0, **SHALLOW).table[NUMBERS].iloc[0]
    ),
    "consistency": lambda v, x: list(
        idvae.consistency([v, v], torch.cat([x] * 4), threshold=0.0).table["mean"]
    ),
    "calibrate": lambda v, x: (
        idvae.calibrate(v.model, x, guide=v.guide, num_replications=12, num_draws=5, seed=0).ranks
    ),
    "calibrate a kernel": lambda v, x: (
        idvae.calibrate(
            v.model,
            x,
            kernel="vectorized",
            num_replications=12,
            num_draws=5,
            mcmc_options={"warmup_steps": 5},
            seed=0,
            progress=False,
        ).ranks
    ),
    "witness": lambda v, x: (
        idvae.find_witness(v.model, x[:1], num_steps=2, num_starts=1).separation
    ),
    "witness of a likelihood": lambda v, x: idvae.find_witness(v.likelihood, num_steps=2).ratio,
}


DEAR = {"assignments", "autopsy", "calibrate a kernel", "evaluate", "hmc"}
"""Made of calls that are here themselves."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in DEAR else []) for name in CALLS],
)
def test_what_is_found_is_the_same_in_every_context(name):
    vae, call = small_mixture() if name == "assignments" else small(), CALLS[name]
    wanted = torch.as_tensor(call(vae, X))
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(call(vae, X)), wanted)
    with torch.inference_mode():
        made_there = X.clone()
        torch.testing.assert_close(torch.as_tensor(call(vae, made_there)), wanted)
    torch.testing.assert_close(torch.as_tensor(call(vae, made_there)), wanted)
    assert not any(p.is_inference() for p in pyro.get_param_store().values())
    assert all(p.requires_grad and p.grad is None for p in vae.parameters())
