import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch.distributions import kl_divergence

from pyro_idvae import IDVAE, active_units, fit, kl_to_prior
from pyro_idvae.errors import ArgumentError, NoCertificateError

X = torch.tensor([0.5, -1.0, 3.0, 0.0])


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x, scale=0.8):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, scale))


def test_kl_is_torchs_closed_form():
    wanted = kl_divergence(dist.Normal(X / 2, 0.8), dist.Normal(0.0, 1.0))
    assert torch.allclose(kl_to_prior(model, guide, X), wanted)


def test_kl_of_a_shifted_prior():
    def shifted(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(2.0, 3.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    wanted = kl_divergence(dist.Normal(X / 2, 0.8), dist.Normal(2.0, 3.0))
    assert torch.allclose(kl_to_prior(shifted, guide, X), wanted)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_kl_of_a_vae_by_dimension(covariance):
    vae = IDVAE(5, 3, "normal", hidden_dims=[8], encoder_hidden_dims=[8], covariance=covariance)
    x = torch.randn(7, 5)
    kl = kl_to_prior(vae.model, vae.guide, x)
    assert kl.shape == (7, 3)
    q = vae.guide.posterior(x)
    wanted = kl_divergence(dist.Normal(q.mean, q.variance.sqrt()), dist.Normal(0.0, 1.0))
    assert torch.allclose(kl, wanted, atol=1e-5)
    total = kl_divergence(
        torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance))
        if covariance == "diagonal"
        else q,
        torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3)),
    )
    assert (kl.sum(-1) <= total + 1e-4).all()


def test_kl_of_an_autoguide():
    auto = AutoNormal(model, init_scale=0.5)
    fit(model, auto, X, num_epochs=1, progress=False)
    posterior = pyro.param("AutoNormal.locs.z"), pyro.param("AutoNormal.scales.z")
    wanted = kl_divergence(dist.Normal(*posterior), dist.Normal(0.0, 1.0))
    assert torch.allclose(kl_to_prior(model, auto, X), wanted)


def test_no_closed_form_is_said():
    def laplace(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Laplace(x, 1.0))

    with pytest.raises(NoCertificateError, match="the guide not Normal"):
        kl_to_prior(model, laplace, X)

    def positive(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(NoCertificateError):
        kl_to_prior(positive, AutoNormal(positive), X)


def two_latents(x, observe=False):
    with pyro.plate("data", len(x)):
        for name in ("a", "b"):
            pyro.sample(name, dist.Normal(0.0, 1.0))
        if observe:
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def test_a_site_must_be_named_if_there_are_several():
    def both(x):
        two_latents(x, observe=True)

    with pytest.raises(ArgumentError, match=r"site=None: expected one of the latent sites"):
        kl_to_prior(both, two_latents, X)
    assert kl_to_prior(both, two_latents, X, site="b").abs().max() == 0


def test_conditionals_are_not_taken_for_marginals():
    def chain(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def chain_guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            pyro.sample("b", dist.Normal(a, 1.0))

    for metric in (kl_to_prior, active_units):
        with pytest.raises(NoCertificateError, match="depends on other latents"):
            metric(chain, chain_guide, X, site="b")


@pytest.mark.parametrize("seed", range(5))
def test_a_switch_that_draws_seldom_pass_makes_a_conditional_too(seed):
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(0.0, torch.where(a > 3.5, 5.0, 1.0)))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    torch.manual_seed(seed)
    with pytest.raises(NoCertificateError, match="depends on other latents"):
        kl_to_prior(model, two_latents, X, site="b")


def test_rows_come_first_whatever_the_plates_dimension():
    def nested(x):
        with pyro.plate("features", 2, dim=-1), pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def nested_t(x):
        with pyro.plate("features", 2, dim=-2), pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.T)

    def guide_of(dim):
        def guide(x):
            with pyro.plate("features", 2, dim=dim), pyro.plate("data", len(x), dim=-3 - dim):
                loc = torch.stack([x[:, 0], torch.zeros(len(x))], -1)
                pyro.sample("z", dist.Normal(loc if dim == -1 else loc.T, 1.0))

        return guide

    x = torch.randn(20, 2)
    for model_, dim in ((nested, -1), (nested_t, -2)):
        assert kl_to_prior(model_, guide_of(dim), x).shape == (20, 2)
        assert active_units(model_, guide_of(dim), x).tolist() == [True, False]


def test_global_latents_are_refused():
    def global_model(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    def global_guide(x):
        pyro.sample("m", dist.Normal(0.0, 1.0))

    with pytest.raises(ArgumentError, match="not in the data plate"):
        kl_to_prior(global_model, global_guide, X)


def test_active_units_see_which_dimensions_move():
    def wide(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    def make(family):
        def guide(x):
            with pyro.plate("data", len(x)):
                loc = torch.stack([x, 0.05 * x, torch.ones_like(x)], -1)
                pyro.sample("z", family(loc, 0.5).to_event(1))

        return guide

    x = torch.randn(400)
    for family in (dist.Normal, dist.Laplace):
        assert active_units(wide, make(family), x).tolist() == [True, False, False]
    lower = active_units(wide, make(dist.Normal), x, threshold=1e-3)
    assert lower.tolist() == [True, True, False]
    with pytest.raises(ArgumentError, match="1 row"):
        active_units(wide, make(dist.Normal), x[:1])
    with pytest.raises(ArgumentError, match="threshold=0"):
        active_units(wide, make(dist.Normal), x, threshold=0.0)


def test_methods_of_a_module_are_run_in_evaluation_mode():
    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

        def guide(self, x):
            guide(self.drop(x))

    pair = Pair()
    assert torch.equal(kl_to_prior(model, pair.guide, X), kl_to_prior(model, guide, X))
    assert pair.training
