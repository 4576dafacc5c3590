"""Training in shorter numbers, and densities that never are."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO

import pyro_idvae as idvae
from pyro_idvae._precision import LIBRARIES, _part, full_precision, training_precision
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.errors import ArgumentError
from pyro_idvae.models import SequenceEncoder, SequentialVAE

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


def precisions():
    return {name: getattr(_part(name), "fp32_precision", None) for name in LIBRARIES}


@pytest.fixture
def as_before():
    before = precisions()
    yield
    for name, value in before.items():
        if value is not None:
            _part(name).fp32_precision = value


@pytest.mark.parametrize("api", ["old", "new"])
def test_full_precision_ends_where_it_began(as_before, api):
    if None in precisions().values():
        pytest.skip("this torch has not the newer one")
    if api == "old":
        torch.set_float32_matmul_precision("high")
    else:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    chosen = precisions()
    assert "tf32" in chosen.values()
    with full_precision():
        assert set(precisions().values()) <= {"ieee", "none"}
    assert precisions() == chosen
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert precisions() == chosen
    vae = CASES["bernoulli"][0]()
    assert idvae.from_guide(vae.model, vae.guide, CASES["bernoulli"][1], num_samples=5)


def test_after_a_fit_the_weights_are_those_that_it_found():
    net = torch.nn.Linear(5, 5)
    vae = CASES["normal"][0]()
    network = vae.guide.encoder.network
    with half():
        net(X)
        before = network(X)
        idvae.fit(vae.model, vae.guide, X, num_epochs=5, progress=False)
        after = network(X)
    with half():
        again = network(X)
    assert not torch.equal(before, after)
    assert torch.equal(after, again)


@pytest.mark.parametrize("wrong", [torch.float64, torch.float16])
def test_other_types_are_refused_under_autocast_too(wrong):
    vae = CASES["normal"][0]()
    with half(), pytest.raises(ArgumentError, match=f"dtype {wrong}"):
        idvae.fit(vae.model, vae.guide, X.to(wrong), num_epochs=1, progress=False)


def test_bounds_are_those_of_full_precision():
    for seed in range(5):
        torch.manual_seed(seed)
        likelihood = idvae.IDVAE(6, 2, "normal", hidden_dims=[32]).likelihood
        with half():
            found = likelihood.lipschitz_bounds(), likelihood.information_bounds()
        assert found == (likelihood.lipschitz_bounds(), likelihood.information_bounds())


def test_weights_that_were_cast_are_cast_again():
    layer = torch.nn.Linear(2, 2, bias=False)
    x = torch.ones(1, 2)
    with half(), training_precision():
        before = layer(x).clone()
        with torch.no_grad():
            layer.weight.add_(1.0)
        assert (layer(x) - before).abs().min() > 1.0
