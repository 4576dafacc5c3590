"""Models, objectives, samplers and diagnostics on a GPU, their data there or on the processor.

They are skipped without a GPU. ``PYRO_IDVAE_DEVICE=cpu`` runs all but the largest on the processor,
to see that the tests themselves are right.
"""

import os

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

import pyro_idvae as idvae
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.infer.objectives import OBJECTIVES
from pyro_idvae.models import SequenceEncoder, SequentialVAE
from tests.testing.table import LIKELIHOODS

DEVICE = torch.device(os.environ.get("PYRO_IDVAE_DEVICE", "cuda"))
THERE = DEVICE.type == "cpu" or torch.cuda.is_available()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not THERE, reason="there is no GPU"),
]

ROWS = 40
SIZES = {"hidden_dims": [8], "encoder_hidden_dims": [8]}
generator = torch.Generator().manual_seed(0)
X = torch.rand(ROWS, 5, generator=generator)
TOKENS = torch.randint(0, 20, (ROWS, 7), generator=generator)


@pytest.fixture(params=["there", "on the processor"])
def x(request):
    """Data on the side of the weights, and on the other."""
    return X.to(DEVICE) if request.param == "there" else X


def pair(family="normal", **options):
    torch.manual_seed(0)
    return idvae.IDVAE(5, 2, family, **SIZES, **options).to(DEVICE)


def is_there(*modules):
    parts = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    return all(part.device.type == DEVICE.type for part in parts)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains(x, objective):
    vae = pair()
    options = {"batch_size": 8, "num_epochs": 3, "validation": 0.2, "progress": False, "seed": 0}
    result = idvae.fit(vae.model, vae.guide, x, objective=objective, **options)
    assert np.isfinite(result.losses).all()
    assert is_there(vae.model, vae.guide)
    options = {"num_epochs": 1, "validation": 0.2, "progress": False, "resume": result}
    again = idvae.fit(vae.model, vae.guide, x, objective=objective, **options)
    assert again.num_epochs == 4


@pytest.mark.parametrize("name", [n for n in LIKELIHOODS if not n.startswith("multinomial")])
def test_every_likelihood_scores_and_draws(name):
    case = LIKELIHOODS[name]
    likelihood = case.make().to(DEVICE)
    given = {key: value.to(DEVICE) for key, value in case.options.items()}
    with torch.no_grad():
        z = torch.randn(7, likelihood.latent_dim, dtype=next(likelihood.parameters()).dtype)
        member = likelihood.condition(z.to(DEVICE), **given)
        found = member.log_prob(member.sample())
    assert found.device.type == DEVICE.type
    assert bool(found.isfinite().all())


def linear(x):
    """Its posterior is N(.8 x, .2)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2, device=x.device), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)


def encoder(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.8 * x, 0.2**0.5).to_event(1))


def check_exact(draws, x, *, errors=5.0):
    """Means of draws against the posterior's, in their standard errors, of all rows together."""
    z = draws["posterior"]["z"].values.astype(np.float64)
    gap = z.mean((0, 1)) - 0.8 * x.cpu().numpy()
    # Of chains near independence; each row's error is at least that of independent draws.
    size = z.shape[0] * z.shape[1]
    assert abs(gap.mean()) < errors * np.sqrt(4 * 0.2 / size / gap.size)
    spread = z.var((0, 1)).mean()
    assert spread == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_side_by_side_have_the_exact_posterior(compiled):
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    options = {"num_samples": 100, "warmup_steps": 100, "seed": 0, "progress": False}
    draws = idvae.mcmc(linear, x, kernel="vectorized", jit_compile=compiled, **options)
    check_exact(draws, x)
    assert "limit_mean_z" in draws["sample_stats"]
    assert str(idvae.collapse_report(draws))


def test_a_store_holds_what_memory_would(tmp_path):
    pytest.importorskip("zarr")
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    options = {"num_samples": 20, "warmup_steps": 20, "block_size": 7, "seed": 0}
    options |= {"kernel": "vectorized", "progress": False}
    wanted = idvae.mcmc(linear, x, **options)["posterior"]["z"].values
    found = idvae.mcmc(linear, x, store=tmp_path / "draws", **options)["posterior"]["z"].values
    assert (found == wanted).all()


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_joint_posteriors_are_drawn(tmp_path, kernel):
    vae = pair()
    options = {"num_samples": 10, "warmup_steps": 10, "num_chains": 2, "progress": False, "seed": 0}
    options |= {"kernel_options": {"num_steps": 3}} if kernel == "hmc" else {}
    wanted = idvae.mcmc(vae.model, X[:3], kernel=kernel, **options)
    assert np.isfinite(wanted["posterior"]["latent"].values).all()
    pytest.importorskip("zarr")
    stored = idvae.mcmc(vae.model, X[:3], kernel=kernel, store=tmp_path / "draws", **options)
    assert (stored["posterior"]["latent"].values == wanted["posterior"]["latent"].values).all()


@pytest.fixture(scope="module")
def trained():
    vae = pair()
    idvae.fit(vae.model, vae.guide, X, num_epochs=20, seed=0, progress=False)
    return vae


@pytest.mark.parametrize(
    "looked",
    [
        lambda vae, x: idvae.importance_log_likelihood(vae.model, vae.guide, x, num_samples=40),
        lambda vae, x: idvae.log_evidence(
            vae.model, vae.guide, x, num_chains=4, bounds="both", num_temperatures=8, seed=0
        ),
        lambda vae, x: idvae.certify(vae.model, x),
        lambda vae, x: idvae.active_units(vae.model, vae.guide, x),
        lambda vae, x: idvae.kl_to_prior(vae.model, vae.guide, x),
        lambda vae, x: idvae.evaluate(vae.model, vae.guide, x, num_samples=20, seed=0),
        lambda vae, x: idvae.find_witness(vae.model, x),
        lambda vae, x: idvae.calibrate(
            vae.model, x, guide=vae.guide, num_replications=40, num_draws=30, seed=0
        ),
        lambda vae, x: idvae.calibrate(
            vae.model,
            x,
            kernel="vectorized",
            num_replications=40,
            num_draws=20,
            seed=0,
            progress=False,
        ),
        lambda vae, x: idvae.autopsy(
            vae.model, vae.guide, x, num_samples=100, num_steps=50, seed=0
        ),
        lambda vae, x: idvae.collapse_report(
            idvae.from_guide(vae.model, vae.guide, x, num_samples=50, block_size=16, seed=0)
        ),
        lambda vae, x: idvae.compare(
            idvae.from_guide(vae.model, vae.guide, x, num_samples=50),
            idvae.mcmc(vae.model, x, kernel="vectorized", num_samples=50, progress=False),
        ),
        lambda vae, x: idvae.plot_likelihood_surface(vae.model, x),
        lambda vae, x: idvae.consistency(
            [(vae.model, vae.guide), (vae.model, vae.guide)], data=x, seed=0
        ),
    ],
)
def test_every_diagnostic_is_found(trained, x, looked):
    assert str(looked(trained, x))
    assert is_there(trained.model, trained.guide)


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "normal"])
def test_wanted_rates_are_built_there(x, family):
    base = (
        (X > 0.5).float()
        if family == "bernoulli"
        else (3 * X).round()
        if family == "poisson"
        else X
    )
    wanted = idvae.wanted_rate(family, base.to(DEVICE), nats=0.1, latent_dim=2)
    assert wanted > 0
    vae = pair(family, base=base.to(DEVICE))
    idvae.fit(vae.model, vae.guide, base, num_epochs=2, progress=False)
    assert is_there(vae.model)


def test_mixtures_and_sequences_train_and_are_told_apart(x):
    mixture = idvae.IDMVAE(5, 2, 3, **SIZES).to(DEVICE)
    options = {"num_epochs": 2, "seed": 0, "progress": False}
    idvae.fit(mixture.model, mixture.guide, x, elbo=TraceEnum_ELBO(), **options)
    found = idvae.assignments(mixture.model, mixture.guide, x, num_chains=4, seed=0)
    assert np.allclose(found.guide.sum(-1), 1.0, atol=1e-5)
    plain = SequentialVAE(NeuralAutoregressive(20, 2, hidden_dim=8), SequenceEncoder(20, 2, 8))
    for vae in (idvae.IDSVAE(20, 2).to(DEVICE), plain.to(DEVICE)):
        tokens = TOKENS.to(x.device)
        result = idvae.fit(vae.model, vae.guide, tokens, **options)
        assert np.isfinite(result.losses).all()
        estimate = idvae.importance_log_likelihood(vae.model, vae.guide, tokens, num_samples=20)
        assert np.isfinite(estimate.log_likelihood).all()


def test_a_checkpoint_goes_on_there(tmp_path):
    options = {"batch_size": 8, "seed": 0, "progress": False}
    whole, parts = pair(), pair()
    wanted = idvae.fit(whole.model, whole.guide, X, num_epochs=4, **options)
    for epochs in (2, 4):
        pyro.clear_param_store()
        found = idvae.fit(
            parts.model, parts.guide, X, num_epochs=epochs, checkpoint=tmp_path / "fit", **options
        )
    assert found.losses == pytest.approx(wanted.losses, rel=1e-5)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="bfloat16 and TF32 are a GPU's")
@pytest.mark.parametrize("shorter", ["bfloat16", "tf32"])
def test_training_in_shorter_numbers_goes_where_training_in_float32_goes(shorter):
    losses = []
    before = torch.get_float32_matmul_precision()
    for is_on in (True, False):
        vae = pair()
        bfloat = torch.autocast("cuda", torch.bfloat16, enabled=is_on and shorter == "bfloat16")
        torch.set_float32_matmul_precision("high" if is_on and shorter == "tf32" else "highest")
        try:
            with bfloat:
                result = idvae.fit(
                    vae.model, vae.guide, X, num_epochs=10, batch_size=8, seed=0, progress=False
                )
        finally:
            torch.set_float32_matmul_precision(before)
        losses.append(result.losses[-1])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(DEVICE.type == "cpu", reason="a million rows are for a GPU")
def test_a_million_rows():
    x = torch.randn(10**6, 2, generator=torch.Generator().manual_seed(1))
    options = {"num_samples": 20, "warmup_steps": 100, "num_prior_samples": 20, "seed": 0}
    draws = idvae.mcmc(
        linear, x.to(DEVICE), kernel="vectorized", num_limit_draws=0, progress=False, **options
    )
    check_exact(draws, x)
