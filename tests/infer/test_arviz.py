import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from pyro_idvae import IDVAE, fit, from_guide, from_mcmc, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError

X = torch.tensor([0.5, -1.0, 3.0])


def model(x):
    """z ~ N(0,1), x ~ N(z,1): the posterior is N(x/2, 1/√2)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def exact_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def small():
    torch.manual_seed(0)
    return IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])


def test_log_densities_of_a_guide_obey_bayes_rule_draw_by_draw():
    data = groups_of(from_guide(model, exact_guide, X, num_samples=50))
    joint = (
        data["log_likelihood"]["x"] + data["log_prior"]["z"] - data["sample_stats"]["log_q"]
    ).values
    wanted = dist.Normal(0.0, 2**0.5).log_prob(X).numpy()
    np.testing.assert_allclose(joint, np.broadcast_to(wanted, joint.shape), atol=1e-5)
    assert data["posterior"].attrs["inference_method"] == "svi"
    assert data["posterior"].attrs["inference_library"] == "pyro"


def test_groups_shapes_and_labels():
    vae = small()
    x = torch.randn(3, 4)
    data = groups_of(
        from_guide(
            vae.model,
            vae.guide,
            x,
            num_samples=20,
            num_prior_samples=30,
            posterior_predictive=True,
            coords={"data": ["a", "b", "c"]},
        )
    )
    shapes = {
        f"{group}/{name}": variable.dims + variable.shape
        for group, dataset in data.items()
        for name, variable in dataset.data_vars.items()
    }
    latent = ("chain", "draw", "data", "latent_dim_0")
    assert shapes == {
        "posterior/latent": (*latent, 1, 20, 3, 2),
        "prior/latent": (*latent, 1, 30, 3, 2),
        "log_likelihood/obs": ("chain", "draw", "data", 1, 20, 3),
        "log_prior/latent": ("chain", "draw", "data", 1, 20, 3),
        "sample_stats/log_q": ("chain", "draw", "data", 1, 20, 3),
        "sample_stats/prior_score_latent": (*latent, 1, 20, 3, 2),
        "sample_stats/checksum_latent": ("chain", "draw", "data", 1, 20, 3),
        "sample_stats/limit_mean_latent": (*latent[2:], 3, 2),
        "sample_stats/limit_variance_latent": (*latent[2:], 3, 2),
        "sample_stats/limit_size_latent": (*latent[2:], 3, 2),
        "sample_stats_prior/checksum_latent": ("chain", "draw", "data", 1, 30, 3),
        "sample_stats_prior/log_likelihood_obs": ("chain", "draw", "data", 1, 30, 3),
        "observed_data/obs": ("data", "obs_dim_0", 3, 4),
        "posterior_predictive/obs": ("chain", "draw", "data", "obs_dim_0", 1, 20, 3, 4),
    }
    assert list(data["posterior"]["data"].values) == ["a", "b", "c"]
    np.testing.assert_array_equal(data["observed_data"]["obs"], x.numpy())


def test_log_likelihoods_at_prior_draws_belong_to_those_draws():
    data = groups_of(from_guide(model, exact_guide, X, num_samples=5, num_prior_samples=40))
    z = torch.tensor(data["prior"]["z"].values)
    wanted = dist.Normal(z, 1.0).log_prob(X).numpy()
    found = data["sample_stats_prior"]["log_likelihood_x"].values
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_predictive_draws_follow_the_posterior():
    data = groups_of(from_guide(model, exact_guide, X, num_samples=2000, posterior_predictive=True))
    draws = data["posterior_predictive"]["x"].values[0]
    error = draws.std(0) / math.sqrt(len(draws))
    assert (abs(draws.mean(0) - X.numpy() / 2) < 5 * error).all()
    np.testing.assert_allclose(draws.var(0), 1.5, rtol=0.15)


@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal])
def test_autoguides(auto):
    guide = auto(model)
    fit(model, guide, X, num_epochs=2, progress=False)
    data = groups_of(from_guide(model, guide, X, num_samples=10))
    assert data["posterior"]["z"].shape == (1, 10, 3)
    joint = auto is AutoMultivariateNormal
    assert data["sample_stats"]["log_q"].shape == ((1, 10) if joint else (1, 10, 3))


def test_the_joint_density_of_an_autoguide_is_right():
    guide = AutoMultivariateNormal(model, init_scale=0.7)
    data = groups_of(from_guide(model, guide, X, num_samples=10))
    z = torch.tensor(data["posterior"]["z"].values[0])
    posterior = guide.get_posterior()
    wanted = posterior.log_prob(z).detach().numpy()
    np.testing.assert_allclose(data["sample_stats"]["log_q"].values[0], wanted, rtol=1e-4)


def global_model(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def nested_model(x):
    with pyro.plate("features", 2, dim=-1), pyro.plate("data", len(x), dim=-2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_global_latents_and_plates_elsewhere():
    data = groups_of(mcmc(global_model, X, num_samples=20, warmup_steps=20, progress=False))
    assert data["posterior"]["mean"].dims == ("chain", "draw")
    assert data["log_prior"]["mean"].shape == (4, 20)
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "data")
    x = torch.randn(3, 2)
    samples = {"z": torch.randn(1, 5, 3, 2)}
    data = groups_of(from_mcmc(samples, nested_model, x))
    assert data["posterior"]["z"].dims == ("chain", "draw", "data", "z_dim_0")
    wanted = dist.Normal(samples["z"], 1.0).log_prob(x).sum(-1).numpy()
    np.testing.assert_allclose(data["log_likelihood"]["x"].values, wanted, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "draws_each"), [("nuts", 300), ("hmc", 600)])
def test_mcmc_finds_the_closed_form(kernel, draws_each):
    import arviz

    options = {"trajectory_length": 1.5} if kernel == "hmc" else {}
    native = mcmc(
        model,
        X,
        kernel=kernel,
        kernel_options=options,
        num_samples=draws_each,
        warmup_steps=draws_each // 3,
        num_chains=2,
        seed=1,
        progress=False,
    )
    data = groups_of(native)
    draws = data["posterior"]["z"].values
    assert draws.shape == (2, draws_each, 3)
    ess = np.array([float(arviz.ess(draws[..., i])) for i in range(3)])
    error = 0.5**0.5 / np.sqrt(ess)
    assert (abs(draws.mean((0, 1)) - X.numpy() / 2) < 4 * error).all()
    np.testing.assert_allclose(draws.var((0, 1)), 0.5, rtol=0.3)
    stats = data["sample_stats"]
    wanted = {"diverging", "energy", "acceptance_rate", "step_size", "prior_score_z"}
    wanted |= {"chain_mass", "chain_mass_size", "checksum_z"}
    wanted |= {f"limit_{field}_z" for field in ("mean", "variance", "size")}
    assert set(stats.data_vars) == wanted
    assert stats["diverging"].dtype == bool
    assert not stats["diverging"].any()
    assert np.isfinite(stats["energy"]).all()
    acceptance = stats["acceptance_rate"].values
    assert acceptance.min() >= -1e-6
    assert acceptance.max() <= 1 + 1e-6
    assert 0.6 < acceptance.mean() <= 1
    assert (stats["step_size"].min("draw") == stats["step_size"].max("draw")).all()
    assert data["posterior"].attrs["inference_method"] == kernel
    # The energy is minus the log joint plus kinetic energy, which is half a χ² of 3 dimensions.
    potential = -(data["log_likelihood"]["x"] + data["log_prior"]["z"]).sum("data").values
    kinetic = stats["energy"].values[:, 1:] - potential[:, :-1]
    assert kinetic.min() > -1e-3
    assert kinetic.mean() == pytest.approx(1.5, abs=0.2)


def test_mcmc_of_a_vae_is_reproducible_and_leaves_it_alone():
    vae = small()
    x = torch.randn(2, 4)
    options = {"num_samples": 10, "warmup_steps": 10, "seed": 3, "progress": False}
    first, second = (groups_of(mcmc(vae.model, x, **options)) for _ in range(2))
    np.testing.assert_array_equal(first["posterior"]["latent"], second["posterior"]["latent"])
    assert all(p.requires_grad for p in vae.parameters())
    assert vae.model.training


def test_pyros_own_mcmc_object_is_understood():
    sampler = MCMC(NUTS(model), num_samples=15, warmup_steps=15, disable_progbar=True)
    sampler.run(X)
    data = groups_of(from_mcmc(sampler, model, X))
    assert data["posterior"]["z"].shape == (1, 15, 3)
    assert data["sample_stats"]["diverging"].shape == (1, 15)


def test_bad_input_is_refused():
    with pytest.raises(ArgumentError, match="kernel='slice'"):
        mcmc(model, X, kernel="slice")
    with pytest.raises(ArgumentError, match="num_samples=0"):
        mcmc(model, X, num_samples=0)
    with pytest.raises(DataError, match="not finite"):
        mcmc(model, torch.tensor([torch.nan]))
    with pytest.raises(ArgumentError, match="nothing to sample"):
        mcmc(lambda x: pyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape), obs=x), X)
    with pytest.raises(ShapeError, match="2 labels but data has 3 rows"):
        from_guide(model, exact_guide, X, num_samples=2, coords={"data": [1, 2]})
    with pytest.raises(ArgumentError, match=r"samples lack the latent sites \['z'\]"):
        from_mcmc({"y": torch.zeros(1, 2, 3)}, model, X)
    with pytest.raises(ShapeError, match=r"samples\['z'\] has shape"):
        from_mcmc({"z": torch.zeros(1, 2, 4)}, model, X)
    with pytest.raises(SiteMismatchError):
        from_guide(model, lambda x: None, X)


def test_a_discrete_latent_that_rows_share_is_refused():
    def mixture(x):
        k = pyro.sample("k", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(k.float(), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(ArgumentError, match=r"\['k'\] are outside the data plate"):
        from_guide(mixture, guide, X)


def test_names_that_arviz_keeps_for_itself_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("chain", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(ArgumentError, match=r"sites called \['chain'\]"):
        mcmc(model, X, num_samples=10)


def test_equal_plates_are_told_apart_by_the_rows():
    def model(x):
        with pyro.plate("features", 3, dim=-2), pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.T)

    x, z = torch.randn(3, 3), torch.randn(1, 2, 3, 3)
    data = groups_of(from_mcmc({"z": z}, model, x))
    assert data["posterior"]["z"].dims == ("chain", "draw", "z_dim_0", "data")
    wanted = dist.Normal(z, 1.0).log_prob(x.T).sum(-2).numpy()
    np.testing.assert_allclose(data["log_likelihood"]["x"].values, wanted, rtol=1e-5)

    def fixed(x):
        with pyro.plate("a", 3, dim=-2), pyro.plate("b", 3, dim=-1):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(ArgumentError, match="all have the size"):
        from_mcmc({"z": z}, fixed, x)


def test_models_that_subsample_are_refused():
    def model(x):
        with pyro.plate("data", len(x), subsample_size=2) as index:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    with pytest.raises(ArgumentError, match="subsamples a plate"):
        from_mcmc({"z": torch.zeros(1, 2, 2)}, model, X)


def test_a_site_called_data_and_a_factor():
    def model(x):
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("data", dist.Normal(z, 1.0), obs=x)
            pyro.factor("penalty", -z.square())

    data = groups_of(from_mcmc({"z": torch.zeros(1, 2, 3)}, model, X))
    assert data["posterior"]["z"].dims == ("chain", "draw", "row")
    assert list(data["observed_data"].data_vars) == ["data"]


def test_a_single_draw_is_enough():
    data = groups_of(mcmc(model, X, num_samples=1, warmup_steps=2, progress=False))
    assert data["posterior"]["z"].shape == (4, 1, 3)


def test_draws_are_made_in_evaluation_mode():
    class Dropped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(1)

        def forward(self, x):
            assert not self.norm.training
            loc = self.norm(x.unsqueeze(-1)).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, 1.0))

    guide = Dropped()
    before = guide.norm.running_mean.clone()
    from_guide(model, guide, X, num_samples=3)
    assert torch.equal(guide.norm.running_mean, before)
    assert guide.training


def walled(x):
    """A wall that a trajectory of any step size runs into."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("wall", torch.where(z > 1.5, -1e6 * (z - 1.5), 0.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping:DeprecationWarning")
def test_arvizs_pictures_of_energy_and_divergences_of_rows_sampled_apart():
    import arviz
    import matplotlib.pyplot as plt

    data = mcmc(
        walled,
        torch.full((4,), 3.0),
        kernel="vectorized",
        num_samples=60,
        warmup_steps=50,
        num_chains=2,
        target_accept_prob=0.5,
        num_limit_draws=0,
        seed=0,
        progress=False,
    )
    stats = groups_of(data)["sample_stats"]
    assert stats["energy"].dims == stats["diverging"].dims == ("chain", "draw")
    assert stats["row_diverging"].sum() >= stats["diverging"].sum() > 0
    assert np.isfinite(np.ravel(arviz.bfmi(data))).all()
    if not arviz.__version__.startswith("0."):
        return
    arviz.plot_energy(data)
    axes = arviz.plot_pair(data, var_names=["z"], divergences=True)
    marked = [len(line.get_xdata()) for line in np.ravel(axes)[0].get_lines()]
    assert int(stats["diverging"].sum()) in marked
    plt.close("all")


def test_divergences_of_rows_are_counted_row_by_row():
    diverging = torch.zeros(2, 30, 3, dtype=torch.bool)
    diverging[0, 4], diverging[1, 7, 1] = True, True
    energy = torch.randn(2, 30, 3)
    data = from_mcmc(
        {"z": torch.randn(2, 30, 3)},
        model,
        X,
        sample_stats={"diverging": diverging, "energy": energy},
    )
    stats = groups_of(data)["sample_stats"]
    assert int(stats["diverging"].sum()) == 2
    assert int(stats["row_diverging"].sum()) == Latents.of(data).divergences == 4
    np.testing.assert_allclose(stats["energy"], energy.double().sum(-1), rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"num_prior_samples": 0}, {"num_limit_draws": -1}])
def test_numbers_of_draws_are_checked_before_sampling(wrong, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("sampling had begun")

    monkeypatch.setattr("pyro_idvae.infer.sampling.Sampling.sample", never)
    monkeypatch.setattr("pyro_idvae.infer.arviz.evaluated", never)
    monkeypatch.setattr("pyro_idvae.infer.guide_sampling.draw_guide", never)
    [(name, value)] = wrong.items()
    with pytest.raises(ArgumentError, match=f"{name}={value}"):
        mcmc(model, X, **wrong)
    with pytest.raises(ArgumentError, match=f"{name}={value}"):
        from_mcmc({"z": torch.zeros(1, 5, 3)}, model, X, **wrong)
    if name == "num_prior_samples":
        with pytest.raises(ArgumentError, match=f"{name}={value}"):
            from_guide(model, exact_guide, X, **wrong)
