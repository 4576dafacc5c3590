"""Training in shorter numbers, and densities that never are."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO

import pyro_idvae as idvae
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.models import SequenceEncoder, SequentialVAE
from pyro_idvae.programs.precision import full_precision, training_precision

ROWS = 64
generator = torch.Generator().manual_seed(0)
X = torch.rand(ROWS, 5, generator=generator)
TOKENS = torch.randint(0, 20, (ROWS, 7), generator=generator)
SIZES = {"hidden_dims": [8], "encoder_hidden_dims": [8]}


def ordinary():
    likelihood = NeuralAutoregressive(20, 2, hidden_dim=8)
    return SequentialVAE(likelihood, SequenceEncoder(20, 2, 8))


CASES = {
    "bernoulli": (lambda: idvae.IDVAE(5, 2, "bernoulli", **SIZES), (X > 0.5).float(), None),
    "normal": (lambda: idvae.IDVAE(5, 2, "normal", **SIZES), X, None),
    "poisson": (lambda: idvae.IDVAE(5, 2, "poisson", **SIZES), (4 * X).round(), None),
    "noise units": (lambda: idvae.IDVAE(5, 2, "normal", base=X, **SIZES), X, None),
    "mixture": (lambda: idvae.IDMVAE(5, 2, 3, **SIZES), X, TraceEnum_ELBO()),
    "sequences": (lambda: idvae.IDSVAE(20, 2), TOKENS, None),
    "ordinary sequences": (ordinary, TOKENS, None),
}


def half():
    return torch.autocast("cpu", torch.bfloat16)


def trained(name, *, shorter, epochs=5):
    make, x, elbo = CASES[name]
    pyro.clear_param_store()
    torch.manual_seed(0)
    vae = make()
    with torch.autocast("cpu", torch.bfloat16, enabled=shorter):
        result = idvae.fit(
            vae.model,
            vae.guide,
            x,
            elbo=elbo,
            batch_size=16,
            num_epochs=epochs,
            seed=0,
            progress=False,
        )
    return vae, result


# The exponential of a rate makes more of a rounded number than any bound here.
@pytest.mark.parametrize("name", [name for name in CASES if name != "poisson"])
def test_training_in_bfloat16_goes_where_training_in_float32_goes(name):
    vae, short = trained(name, shorter=True)
    _, full = trained(name, shorter=False)
    assert short.losses != full.losses
    for one, other in zip(short.losses, full.losses, strict=True):
        assert one == pytest.approx(other, rel=0.02)
    for parameter in [*vae.model.parameters(), *vae.guide.parameters()]:
        assert parameter.dtype == torch.float32


@pytest.mark.parametrize("name", CASES)
def test_densities_are_not_computed_in_shorter_numbers(name):
    make, x, _ = CASES[name]
    vae = make()
    with half():
        guide = poutine.trace(vae.guide).get_trace(x)
        model = poutine.trace(poutine.replay(vae.model, trace=guide)).get_trace(x)
    for trace in (guide, model):
        trace.compute_log_prob()
        for site in trace.nodes.values():
            if site["type"] == "sample" and torch.is_floating_point(site["value"]):
                assert site["log_prob"].dtype == torch.float32, site["name"]
                assert site["value"].dtype == torch.float32, site["name"]


def test_what_draws_and_scores_is_the_same_under_autocast():
    vae, _ = trained("bernoulli", shorter=False)
    x = CASES["bernoulli"][1]
    sampling = {"kernel": "vectorized", "num_samples": 10, "warmup_steps": 10, "seed": 0}
    found = []
    for context in (half, lambda: torch.autocast("cpu", enabled=False)):
        torch.manual_seed(0)
        with context():
            drawn = idvae.mcmc(vae.model, x, progress=False, **sampling)
            guided = idvae.from_guide(vae.model, vae.guide, x, num_samples=20)
            weighed = idvae.importance_log_likelihood(vae.model, vae.guide, x, num_samples=20)
            evidence = idvae.log_evidence(vae.model, vae.guide, x, num_chains=4, seed=0)
            certificate = idvae.certify(vae.model, x)
        found.append(
            [
                drawn["posterior"]["latent"].values.tolist(),
                guided["sample_stats"]["log_q"].values.tolist(),
                weighed.log_likelihood.tolist(),
                evidence.lower.tolist(),
                str(certificate),
            ]
        )
    assert found[0] == found[1]


def test_full_precision_ends_where_it_began():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        with pytest.raises(KeyError), full_precision():
            raise KeyError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_weights_that_were_cast_are_cast_again():
    layer = torch.nn.Linear(2, 2, bias=False)
    x = torch.ones(1, 2)
    with half(), training_precision():
        before = layer(x).clone()
        with torch.no_grad():
            layer.weight.add_(1.0)
        assert (layer(x) - before).abs().min() > 1.0
