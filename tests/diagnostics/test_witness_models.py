"""Two settings of all latents of a model that give the same data."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroSample

from pyro_idvae import find_witness
from pyro_idvae.diagnostics.witness import ModelWitness, Witness
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.models import VAEModel, mlp

GRID = torch.linspace(-1.0, 1.0, 20)
SAME = 1e-6
"""Nats: one test in 4,000 right by more than chance."""


def standard(*shape):
    return dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape))


def product(x, y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(a * b * x, 0.1), obs=y)


def mean(x):
    m = pyro.sample("m", dist.Normal(1.0, 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m, 0.5), obs=x)


def check_same(witness, apart=2.0):
    assert isinstance(witness, ModelWitness)
    assert 0 <= witness.distance < SAME
    assert abs(witness.log_ratio) < 0.1
    assert witness.separation > apart
    assert witness.success < 0.501
    assert witness.ratio == pytest.approx(witness.distance**0.5 / witness.separation)
    moved = torch.cat(list(witness.moves.values())).norm()
    assert witness.separation == pytest.approx(float(moved))


def test_of_a_product_only_the_product_is_known():
    witness = find_witness(product, (GRID, 0.5 * GRID))
    check_same(witness)
    first, second = (v["a"] * v["b"] for v in (witness.values, witness.other))
    assert float(first) == pytest.approx(float(second), abs=1e-4)
    lines = str(witness).split("\n")
    assert "prior standard deviations apart" in lines[0]
    assert lines[1].startswith("  a: ")
    assert " → " in lines[2]
    assert len(lines) == 3
    assert witness.prior_distance == witness.standard_error == 0


def test_of_a_product_of_positive_latents_too():
    def positive(x, y):
        a = pyro.sample("a", dist.LogNormal(0.0, 1.0))
        b = pyro.sample("b", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(a * b * x, 0.1), obs=y)

    witness = find_witness(positive, (GRID, 0.5 * GRID))
    check_same(witness)
    for values in (witness.values, witness.other):
        assert all(float(value) > 0 for value in values.values())


def test_loadings_and_factors_turn_together():
    def factors(x):
        loadings = pyro.sample("W", standard(5, 2))
        noise = pyro.sample("noise", dist.LogNormal(-1.0, 0.3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", standard(2))
            pyro.sample("x", dist.Normal(z @ loadings.T, noise).to_event(1), obs=x)

    witness = find_witness(factors, torch.randn(8, 5))
    check_same(witness)
    one, other = witness.values, witness.other
    assert (one["W"] - other["W"]).norm() > 1
    assert torch.allclose(one["z"] @ one["W"].T, other["z"] @ other["W"].T, atol=1e-2)
    assert "noise" not in str(witness).split("\n", 1)[1]


def test_components_change_their_labels():
    """A mixture has no closed form: its data are drawn."""

    def mixture(x):
        weight = pyro.sample("weight", dist.Dirichlet(torch.ones(3)))
        loc = pyro.sample("loc", dist.Normal(0.0, 2.0).expand([3]).to_event(1))
        components = dist.Normal(loc, torch.ones(3))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weight), components), obs=x)

    witness = find_witness(mixture, torch.randn(20), num_steps=20)
    check_same(witness)
    for name in ("weight", "loc"):
        one, other = (values[name].sort().values for values in (witness.values, witness.other))
        assert torch.allclose(one, other, atol=1e-2)


def test_of_two_latents_that_are_added_the_sum_is_known():
    def added(x):
        with pyro.plate("data", len(x)):
            z0 = pyro.sample("z0", dist.Normal(0.0, 1.0))
            z1 = pyro.sample("z1", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z0 + z1, 0.5), obs=x)

    witness = find_witness(added, torch.randn(6))
    check_same(witness)
    step = {name: witness.other[name] - witness.values[name] for name in ("z0", "z1")}
    assert torch.allclose(step["z0"], -step["z1"], atol=1e-2)


def test_collinear_columns_trade_their_coefficients():
    x = torch.randn(30, 3)
    x[:, 2] = x[:, 0] - x[:, 1]

    def regression(x, y):
        slope = pyro.sample("slope", standard(3))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ slope, noise), obs=y)

    witness = find_witness(regression, (x, torch.randn(30)))
    check_same(witness)
    step = torch.nn.functional.normalize(witness.other["slope"] - witness.values["slope"], dim=0)
    dead = torch.tensor([1.0, -1.0, -1.0]).to(step) / 3**0.5
    assert abs(float(step @ dead)) > 0.999


def test_a_constant_in_all_logits_is_not_known():
    def softmax(x):
        logits = pyro.sample("logits", standard(4))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Categorical(logits=logits), obs=x)

    witness = find_witness(softmax, torch.arange(4).repeat(5))
    check_same(witness)
    step = witness.other["logits"] - witness.values["logits"]
    assert float(step.std() / step.mean().abs()) < 1e-2


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_a_latent_that_a_decoder_ignores(family):
    network = mlp([3, 16, 6])
    with torch.no_grad():
        network[0].weight[:, 1] = 0.0
    model = VAEModel(NeuralLikelihood(make_family(family), network))
    witness = find_witness(model, (torch.rand(2, 6) < 0.5).float(), num_steps=60)
    check_same(witness)
    step = (witness.other["latent"] - witness.values["latent"]).norm(dim=0)
    assert step[1] > 50 * step[[0, 2]].max()
    assert "latent[0,1]" in str(witness)


def test_an_identifiable_model_keeps_its_distance():
    """J = n(m − m′)²/σ² for every pair: 4√n noise scales a prior standard deviation of 2."""
    witness = find_witness(mean, torch.randn(25), min_separation=0.5)
    assert witness.ratio == pytest.approx(4 * 5, rel=0.2)
    assert witness.success == 1.0
    assert witness.separation >= 0.5 - 1e-6
    assert "100.0 % of cases" in str(witness)


def test_without_a_closed_form_the_distance_is_drawn():
    def counts(x):
        log_mean = pyro.sample("log_mean", dist.Normal(0.0, 1.0))
        shape = pyro.sample("shape", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            logits = log_mean - shape.log()
            pyro.sample("x", dist.NegativeBinomial(shape, logits=logits), obs=x)

    witness = find_witness(counts, torch.ones(40), num_steps=40)
    assert witness.distance > 5 * witness.standard_error > 0
    assert witness.ratio > 0.1
    assert " ± " in str(witness)


def test_a_hyperparameter_that_moves_alone_is_said_to_have_a_prior_to_answer_to():
    def hierarchy(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(m, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    witness = find_witness(hierarchy, torch.randn(4), num_steps=50)
    assert witness.distance < SAME
    step = float(witness.other["m"] - witness.values["m"])
    assert witness.prior_distance == pytest.approx(4 * step**2, rel=1e-4)
    assert "given all latents" in str(witness)


def test_masked_observations_do_not_tell_settings_apart():
    seen = GRID > 0.5

    def masked(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.poutine.mask(mask=seen):
                pyro.sample("x", dist.Normal(z, 0.1), obs=x)
            pyro.sample("b", dist.Bernoulli(logits=z).mask(seen), obs=(x > 0).float())

    witness = find_witness(masked, GRID, num_steps=60)
    check_same(witness)
    step = (witness.other["z"] - witness.values["z"]).abs()
    assert step[seen].max() < 1e-2 * step[~seen].max()


def test_models_that_take_one_setting_at_a_time():
    """A branch on a value cannot run for many at once; weights elsewhere stay in their type."""
    design = torch.randn(20, 2)
    design[:, 1] = 2 * design[:, 0]

    def branching(y):
        slope = pyro.sample("slope", standard(2))
        scale = 0.5 if slope.detach().sum().item() > 100 else 0.2
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(design @ slope, scale), obs=y)

    witness = find_witness(branching, torch.randn(20), num_steps=30)
    assert witness.values["slope"].dtype == torch.float32
    assert witness.distance < 1e-4
    assert witness.separation > 1


def test_the_world_is_left_as_it_was():
    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.offset = PyroSample(dist.Normal(0.0, 1.0))

        def forward(self, x, y):
            loc = self.layer(x).squeeze(-1) + self.offset + pyro.param("shift", torch.tensor(0.5))
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    model, data = Regression(), (torch.randn(7, 2), torch.randn(7))
    model.train()
    model(*data)
    store = pyro.get_param_store()
    state, before = torch.get_rng_state(), dict(store.named_parameters())
    few = {"num_steps": 5, "num_starts": 2, "seed": 1}
    first, second = (find_witness(model, data, **few) for _ in range(2))
    assert str(first) == str(second)
    assert torch.equal(first.other["offset"], second.other["offset"])
    assert torch.equal(torch.get_rng_state(), state)
    after = dict(store.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert torch.get_default_dtype() == torch.float32
    assert model.layer.weight.dtype == torch.float32
    assert model.layer.weight.requires_grad
    assert model.training
    # A method is a model as well.
    assert find_witness(model.__call__, data, **few).ratio == first.ratio


def test_a_likelihood_alone_has_the_witness_it_had():
    likelihood = NeuralLikelihood(make_family("normal"), torch.nn.Linear(2, 3))
    assert isinstance(find_witness(likelihood, num_steps=2), Witness)
