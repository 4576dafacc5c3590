import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae.programs import BoundModel
from pyro_idvae.programs.dependence import guide_dependences, prior_dependences

X = torch.randn(6)


def switched(edge):
    """z's scale is another one beyond an edge of w, which prior draws may never pass."""

    def model(x):
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("z", dist.Normal(0.0, torch.where(w > edge, 5.0, 1.0)))
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    return model


@pytest.mark.parametrize("edge", [0.0, 1.5, 3.5, -3.5])
@pytest.mark.parametrize("seed", range(5))
def test_a_switch_is_found_near_and_far(edge, seed):
    torch.manual_seed(seed)
    bound = BoundModel(switched(edge), None, ((X,), {}))
    assert prior_dependences(bound) == {"w": frozenset(), "z": frozenset({"w"})}


def test_what_only_two_together_bring_about():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        c = pyro.sample("c", dist.Gamma(2.0, 1.0))
        both = ((a > 1.5) & (b > 1.5)).to(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0 + both))
            pyro.sample("x", dist.Normal(z, c), obs=x)

    torch.manual_seed(0)
    found = prior_dependences(BoundModel(model, None, ((X,), {})))
    assert found["z"] >= {"a", "b"}
    assert not found["a"] | found["b"] | found["c"]


def test_random_numbers_and_parameters_are_left_alone():
    bound = BoundModel(switched(0.0), None, ((X,), {}))
    state = torch.get_rng_state()
    assert prior_dependences(bound) is prior_dependences(bound)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("linked", [True, False])
def test_guides_whose_sites_follow_one_another(linked):
    def guide(x):
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Normal(x, 1.0))
            pyro.sample("z", dist.Normal(w * linked, 1.0))

    bound = BoundModel(switched(0.0), guide, ((X,), {}))
    others = frozenset({"w"}) if linked else frozenset()
    assert guide_dependences(bound)["z"] == others
