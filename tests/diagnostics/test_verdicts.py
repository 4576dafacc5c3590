"""Verdicts that must not mislead: what once was said falsely."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import collapse_report, from_guide, from_mcmc, mcmc
from pyro_idvae.arviz_io import Variable, groups_of, to_arviz
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.mixing import mixed
from pyro_idvae.errors import DataError

ROWS = 40
X = torch.linspace(-2, 2, ROWS)
OPTIONS = {"kernel": "vectorized", "seed": 0, "progress": False, "num_samples": 300}


def local(mean, noise=1.0, dim=1):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(mean(z), noise), obs=x)

    return model


def edited(data, **changes):
    """Return the same ArviZ data with group/variable arrays replaced, or left out if None."""
    groups = {
        group: {
            str(name): Variable(v.values, v.dims, ())
            for name, v in dataset.data_vars.items()
            if f"{group}/{name}" not in changes
        }
        for group, dataset in groups_of(data).items()
    }
    for path, variable in changes.items():
        group, _, name = path.partition("/")
        if variable is not None:
            groups[group][name] = variable
    attrs = {
        name: groups_of(data)["posterior"].attrs[name]
        for name in ("inference_method", "independent_draws", "data_dim")
    }
    return to_arviz(groups, attrs=attrs)


def spiked(mass, width, rows=ROWS):
    """A likelihood that is flat but for an interval that gets a posterior mass; and exact draws."""
    share = (math.erf((0.5 + width) / 2**0.5) - math.erf((0.5 - width) / 2**0.5)) / 2
    gain = math.log(mass * (1 - share) / (share * (1 - mass)))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            inside = (z[:, 0] - 0.5).abs() < width
            pyro.factor("spike", torch.where(inside, gain, 0.0))
            pyro.sample("x", dist.Normal(z[:, 1], 1.0), obs=x)

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 500, rows, 2, generator=generator)
    z[..., 1] = X / 2 + 0.5**0.5 * z[..., 1]
    spike = 0.5 + width * (2 * torch.rand(4, 500, rows, generator=generator) - 1)
    hit = torch.rand(4, 500, rows, generator=generator) < mass
    z[..., 0] = torch.where(hit, spike, z[..., 0])
    kl = mass * math.log(mass / share) + (1 - mass) * math.log((1 - mass) / (1 - share))
    return model, {"z": z}, kl


def test_a_narrow_spike_is_not_collapsed():
    model, draws, kl = spiked(0.08, 0.002)
    assert kl > 0.2
    report = collapse_report(from_mcmc(draws, model, X))
    row = report.table.loc["z[0]"]
    # The fit to the draws sees nothing, and its own upper limit would have said collapsed.
    assert row["kl_upper"] < 0.05
    assert row["limit"] > kl
    assert row["verdict"] != "collapsed"
    # It is not known through the other one.
    assert row["verdict"] != "joint"


def test_older_draws_fall_back_on_all_latents_together():
    flat = local(lambda z: 0 * z[:, 0], dim=2)
    draws = from_mcmc({"z": torch.randn(4, 300, ROWS, 2)}, flat, X, num_limit_draws=0)
    report = collapse_report(draws)
    assert set(report.table["limit_by"]) == {"J of all"}
    assert set(report.table["verdict"]) == {"collapsed"}
    one = local(lambda z: z[:, 0], dim=2)
    exact = torch.randn(4, 300, ROWS, 2)
    exact[..., 0] = X / 2 + 0.5**0.5 * exact[..., 0]
    without = collapse_report(from_mcmc({"z": exact}, one, X, num_limit_draws=0))
    assert without.table["verdict"].tolist() == ["informative", "undecided"]
    assert "the limit is" in without.table.loc["z[1]", "why"]
    with_limits = collapse_report(from_mcmc({"z": exact}, one, X))
    assert with_limits.table["verdict"].tolist() == ["informative", "collapsed"]
    assert with_limits.table.loc["z[1]", "limit_by"] == "J given the others"


def test_a_sum_of_many_is_known_jointly():
    number = 20
    model = local(lambda z: z.sum(-1), noise=0.1, dim=number)
    torch.manual_seed(0)
    x = number**0.5 * torch.randn(ROWS)
    covariance = torch.eye(number) - torch.ones(number, number) / (number + 0.01)
    mean = (x / (number + 0.01)).unsqueeze(-1).expand(-1, number)
    draws = dist.MultivariateNormal(mean, covariance).sample((4, 400))
    report = collapse_report(from_mcmc({"z": draws}, model, x))
    assert set(report.table["verdict"]) == {"joint"}
    assert report.verdict == "informative"
    assert "Known only together with others: z[0], z[1]" in str(report)


def test_a_correlated_guide_is_joint_and_a_factorised_one_collapsed():
    model = local(lambda z: z.sum(-1), dim=2)

    def guide(correlation):
        covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])

        def found(x):
            with pyro.plate("data", len(x)):
                zero = torch.zeros(len(x), 2)
                pyro.sample("z", dist.MultivariateNormal(zero, covariance))

        return found

    joint = collapse_report(from_guide(model, guide(-0.9), X))
    assert set(joint.table["verdict"]) == {"joint"}
    assert set(joint.table["limit_by"]) == {"log q/p"}
    assert collapse_report(from_guide(model, guide(0.0), X)).verdict == "collapsed"


def test_a_conditional_prior_has_no_exact_scores():
    """z | w ~ N(0, 1 or 5) and its posterior is its prior: its conditional cdf proves nothing."""

    def model(x):
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("z", dist.Normal(0.0, torch.where(w > 1.0, 5.0, 1.0)))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    for seed in range(10):
        torch.manual_seed(seed)
        w = torch.randn(4, 300, ROWS)
        z = torch.randn(4, 300, ROWS) * torch.where(w > 1.0, 5.0, 1.0)
        data = from_mcmc({"w": w, "z": z}, model, X)
        assert "prior_score_z" not in groups_of(data)["sample_stats"]
        report = collapse_report(data)
        assert report.table.loc["z", "verdict"] == "collapsed"
        assert report.table.loc["z", "limit_by"] == "J of all"


def disagreeing(share, known):
    """Draws of which one chain sits in another mode in a share of the rows."""
    model = local(lambda z: z[:, 0])
    torch.manual_seed(0)
    z = (X / 2 + 0.5**0.5 * torch.randn(4, 300, ROWS)).unsqueeze(-1)
    count = round(share * ROWS)
    z[0, :, :count] += 6.0
    data = from_mcmc({"z": z}, model, X)
    mass = np.full((4, ROWS), 0.25, dtype="f4")
    mass[:, :count] = np.array([1e-5, 1 / 3, 1 / 3, 1 / 3])[:, None] if known else np.nan
    size = np.full(ROWS, np.inf, dtype="f4")
    size[:count] = 500.0 if known else 0.0
    return edited(
        data,
        **{
            "sample_stats/chain_mass": Variable(mass, ("chain", "data"), ()),
            "sample_stats/chain_mass_size": Variable(size, ("data",), ()),
        },
    )


def truth():
    return float((-0.5 * math.log(0.5) + (0.5 + X**2 / 4 - 1) / 2).mean())


def test_rows_of_disagreeing_chains_are_weighed():
    report = collapse_report(disagreeing(0.5, known=True))
    assert report.chains.num_weighed == ROWS // 2
    assert report.chains.num_left_out == 0
    assert report.table.loc["z[0]", "kl"] == pytest.approx(truth(), abs=0.03)
    assert report.verdict == "informative"


def test_a_few_rows_that_cannot_be_weighed_are_left_out():
    report = collapse_report(disagreeing(0.05, known=False))
    assert report.chains.num_left_out == 2
    assert report.table.loc["z[0]", "data_points"] == ROWS - 2
    assert len(report.per_point["data"]) == ROWS - 2
    assert report.verdict == "informative"
    assert "2 are left out of all means" in str(report)


def test_many_such_rows_leave_a_selection():
    report = collapse_report(disagreeing(0.1, known=False))
    assert report.verdict == "undecided"
    assert set(report.table["verdict"]) == {"undecided"}
    text = str(report)
    assert "Chains disagree in 4 of 40 data points (10 %" in text
    assert "nothing is decided" in text
    assert "Undecided: chains disagree in 4 rows" in text


def test_draws_that_are_not_finite_are_no_disagreement():
    data = disagreeing(0.05, known=True)
    z = groups_of(data)["posterior"]["z"]
    broken = z.values.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="'z' are not all finite"):
        mixed(Latents.of(edited(data, **{"posterior/z": Variable(broken, z.dims, ())})))


def global_draws(chains, scale=1.0):
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(scale * z, 1.0), obs=x)

    return from_mcmc({"z": torch.as_tensor(chains, dtype=torch.float32)}, model, X)


def test_global_latents_of_disagreeing_chains_are_undecided():
    rng = np.random.default_rng(0)
    chains = 0.2 * rng.normal(size=(4, 300))
    chains[0] += 1
    report = collapse_report(global_draws(chains))
    assert report.verdict == report.table.loc["z", "verdict"] == "undecided"
    assert "R-hat is above 1.05 for z: their chains disagree" in str(report)
    assert "latents of data points" not in str(report)
    assert "Undecided, z: R-hat is" in str(report)


def test_three_effective_draws_prove_nothing():
    rng = np.random.default_rng(1)
    steps = np.cumsum(rng.normal(size=(4, 400)), 1)
    chains = 0.3 * steps / steps.std()
    report = collapse_report(global_draws(chains - chains.mean(1, keepdims=True)))
    row = report.table.loc["z"]
    assert row["ess"] < 100
    assert row["verdict"] == report.verdict == "undecided"
    assert "effective draws" in row["why"] or "R-hat" in row["why"]


def test_one_latent_and_all_of_them_are_one_statement():
    """Of one latent J = .08 and KL = .04: not below ε by the limit, and not 0."""
    slope = 0.285
    model = local(lambda z: slope * z[:, 0])
    torch.manual_seed(0)
    x = torch.randn(400) * (1 + slope**2) ** 0.5
    gain = slope / (1 + slope**2)
    z = (gain * x + (1 + slope**2) ** -0.5 * torch.randn(4, 300, 400)).unsqueeze(-1)
    report = collapse_report(from_mcmc({"z": z}, model, x))
    row = report.table.loc["z[0]"]
    assert row["kl_upper"] < 0.05 < report.vector["lower"]
    assert row["verdict"] == report.vector["verdict"] == report.verdict == "informative"
    assert "Of 1 latent, 0 collapsed, 1 informative" in str(report)


def test_heavy_tails_under_the_prior_are_said():
    def model(x, slope=3.0):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Poisson((slope * z).exp()), obs=x)

    x = torch.ones(30)
    heavy = collapse_report(mcmc(model, x, **OPTIONS))
    assert heavy.vector["heavy_tails"] > 0.5
    assert "heavy tail under the prior" in str(heavy)
    light = collapse_report(
        from_mcmc({"z": torch.randn(4, 300, 30, 1)}, local(lambda z: z[:, 0]), x)
    )
    assert light.vector["heavy_tails"] < 0.1
    assert "heavy tail" not in str(light)


def test_means_do_not_hide_rows():
    """One row of a hundred has four nats, the others none."""
    rows = 100
    seen = torch.zeros(rows)
    seen[17] = 1.0

    def model(x, seen):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(seen * z, 0.02), obs=x)

    torch.manual_seed(0)
    x = torch.zeros(rows)
    z = torch.randn(4, 300, rows)
    z[:, :, 17] = 0.02 * torch.randn(4, 300)
    report = collapse_report(from_mcmc({"z": z}, model, (x, seen)))
    row = report.table.loc["z"]
    assert row["largest"] == pytest.approx(-math.log(0.02) - 0.5, abs=0.1)
    assert row["largest_row"] == 17
    assert row["share_above"] == 0.01
    if row["verdict"] != "informative":
        assert "means hide rows" in str(report)
        assert "at data point 17" in str(report)


def test_a_mean_below_epsilon_names_the_row_above_it():
    rows = 100
    torch.manual_seed(0)
    w = torch.zeros(rows)
    w[5] = 3.0

    def model(x, w):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(w * z, 1.0), obs=x)

    z = torch.randn(4, 500, rows)
    z[:, :, 5] = 10**-0.5 * z[:, :, 5]
    report = collapse_report(from_mcmc({"z": z}, model, (torch.zeros(rows), w)), epsilon=0.2)
    assert report.table.loc["z", "verdict"] == "collapsed"
    assert "Caution: means hide rows. z: KL is above ε at up to 1 %" in str(report)
    assert "of z at data point 5" in str(report)


def test_a_dead_direction_off_the_axes_is_named():
    model = local(lambda z: 1.5 * (z[:, 0] + z[:, 1]) / 2**0.5, dim=3)
    torch.manual_seed(0)
    x = 1.8 * torch.randn(ROWS)
    report = collapse_report(mcmc(model, x, **OPTIONS))
    assert report.table["verdict"].tolist() == ["informative", "informative", "collapsed"]
    (row,) = [r for _, r in report.directions.iterrows() if r["verdict"] == "collapsed"]
    assert abs(row["loadings"]["z[0]"] + row["loadings"]["z[1]"]) < 0.05
    assert row["limit"] < 0.05
    assert "Nothing is known of the direction" in str(report)
    assert "z[2]" not in row["direction"]


def test_an_eigenvalue_of_one_is_no_proof():
    """x = z² + .3 N has a mean posterior variance of about 1 and more than a nat."""
    model = local(lambda z: z[:, 0] ** 2 + 0 * z[:, 1], noise=0.3, dim=2)
    torch.manual_seed(0)
    x = torch.randn(ROWS) ** 2 + 0.3 * torch.randn(ROWS)
    report = collapse_report(mcmc(model, x, **OPTIONS))
    assert report.table.loc["z[0]", "verdict"] == "informative"
    assert not (report.directions["verdict"] == "collapsed").any()


def test_a_product_is_known_together():
    def model(x, y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(a * b * x, 0.1), obs=y)

    # Exact draws by weighting the prior: a·b ≈ 1.
    torch.manual_seed(0)
    x = torch.ones(30)
    a, b = torch.randn(2, 500_000)
    weights = (-0.5 * 30 * ((a * b - 1) / 0.1) ** 2).double().softmax(0)
    chosen = torch.multinomial(weights, 2000, replacement=True)
    draws = {"a": a[chosen].reshape(4, 500), "b": b[chosen].reshape(4, 500)}
    report = collapse_report(from_mcmc(draws, model, (x, x)))
    assert report.pairs[["latent", "other"]].values.tolist() == [["a", "b"]]
    assert "Known together rather than apart: a and b" in str(report)
    assert "find_witness" in str(report)
