"""Posteriors that are right, and wrong in known ways, and what a calibration says of them."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import binom
from torch import nn

import pyro_idvae as idvae
from pyro_idvae.diagnostics.calibration.departures import departure, detectable
from pyro_idvae.diagnostics.estimators.rank_bands import (
    exit_probability,
    normal_cells,
    simultaneous_band,
)
from pyro_idvae.infer.sampling import Sampling

RHO = 0.6
A = (RHO / (1 - RHO)) ** 0.5
MAP = torch.tensor([A, -A])
PRECISION = torch.eye(2) + torch.outer(MAP, MAP)
COVARIANCE = torch.linalg.inv(PRECISION)
SD = COVARIANCE.diagonal().sqrt()
X = torch.zeros(3)
QUIET = {"progress": False, "seed": 0}
RARE = {"level": 1e-3, **QUIET}
"""For what must not be called miscalibrated: chance says it once in a thousand seeds."""


def linear(x):
    """Its posterior is N(x C a, C), with correlation .6."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ MAP, 1.0), obs=x)


class Guide:
    def __init__(self, covariance=COVARIANCE, shift=0.0):
        self.covariance, self.shift = covariance, shift

    def __call__(self, x):
        mean = x.unsqueeze(-1) * (COVARIANCE @ MAP) + self.shift * SD
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, self.covariance))


def rejected(found):
    return set(found.table.index[found.table["p_adjusted"] <= found.level])


def test_an_exact_guide_is_not_called_miscalibrated():
    found = idvae.calibrate(linear, X, guide=Guide(), **RARE)
    assert found.verdict == "no miscalibration seen"
    assert found.ranks.shape == (500, 5)
    assert found.num_draws == 499
    assert found.ranks.min() >= 0
    assert found.ranks.max() <= 499
    assert found.by_row
    assert found.complete
    assert found.method == "guide"
    assert list(found.names) == ["z[0]", "z[1]", "|z|²", "log p(x|z)", "z[0] × z[1]"]
    assert (found.table["departure"] == "").all()


def test_the_verdict_keeps_its_level():
    """Fifteen runs of exact guides: more than four miscalibrated have a probability below 1e-4."""
    runs, wrong = 15, 0
    for seed in range(runs):
        found = idvae.calibrate(
            linear, X, guide=Guide(), num_replications=50, num_draws=19, seed=seed
        )
        wrong += found.verdict == "miscalibrated"
    assert binom.sf(wrong - 1, runs, 0.05) > 1e-4


@pytest.mark.parametrize(
    ("guide", "quantity", "words"),
    [
        (Guide(0.8**2 * COVARIANCE), "z[0]", "too narrow"),
        (Guide(1.3**2 * COVARIANCE), "z[1]", "too wide"),
        (Guide(shift=0.25), "z[0]", "too high"),
        (Guide(shift=-0.25), "z[1]", "too low"),
        (Guide(torch.diag(1 / PRECISION.diagonal())), "z[0]", "too narrow"),
        (Guide(0.7**2 * COVARIANCE, shift=0.5), "z[0]", "too high and too narrow"),
    ],
)
def test_errors_of_margins_are_seen_and_named(guide, quantity, words):
    found = idvae.calibrate(linear, X, guide=guide, **QUIET)
    assert found.verdict == "miscalibrated"
    assert found.table.loc[quantity, "departure"] == words


def test_the_size_of_an_error_is_told():
    found = idvae.calibrate(
        linear, X, guide=Guide(0.7**2 * COVARIANCE), num_replications=2000, **QUIET
    )
    error = 0.7 / (2 * 2000) ** 0.5
    assert abs(found.table.loc["z[0]", "sd_ratio"] - 0.7) < 4 * error + 0.02
    found = idvae.calibrate(linear, X, guide=Guide(shift=0.5), num_replications=2000, **QUIET)
    assert abs(found.table.loc["z[0]", "shift"] - 0.5) < 4 / 2000**0.5 + 0.02


def test_right_margins_without_their_correlation_are_seen_in_a_pair():
    guide = Guide(torch.diag(COVARIANCE.diagonal()))
    found = idvae.calibrate(linear, X, guide=guide, **QUIET)
    assert "z[0] × z[1]" in rejected(found)
    assert not {"z[0]", "z[1]"} & rejected(found)
    assert found.table.loc["z[0] × z[1]", "departure"].startswith("too low")


def test_the_prior_is_seen_by_the_likelihood_alone():
    """Margins of prior draws have uniform ranks, whatever the data say."""
    found = idvae.calibrate(scalar, X, guide=lambda x: prior_of(x, dist.Normal(0.0, 1.0)), **QUIET)
    assert rejected(found) == {"log p(x|z)"}


def prior_of(x, prior):
    with pyro.plate("data", len(x)):
        pyro.sample("z", prior)


def scalar(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_k_of_each_row_is_that_of_its_weights():
    """Weights of a guide of a fifth of the variance have an infinite variance: k = 1 − 1/5."""
    exact = idvae.calibrate(linear, X, guide=Guide(), num_replications=100, **QUIET)
    assert exact.pareto_k.shape == (100,)
    assert (exact.pareto_k == 0).all()
    narrow = idvae.calibrate(
        linear, X, guide=Guide(0.2 * COVARIANCE), num_replications=100, **QUIET
    )
    assert 0.6 < np.median(narrow.pareto_k) < 1.0
    point = idvae.calibrate(
        scalar, X, guide=lambda x: prior_of(x, dist.Delta(x / 2)), num_replications=50, **QUIET
    )
    assert np.isnan(point.pareto_k).all()
    assert "k-hat unknown" in str(point)
    assert point.verdict == "miscalibrated"


def test_a_seed_gives_the_same_ranks_again():
    one, again, other = (
        idvae.calibrate(linear, X, guide=Guide(), num_replications=20, seed=seed)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.ranks, again.ranks)
    assert (one.ranks != other.ranks).any()


def test_the_example_given_for_the_data_does_not_matter():
    one, other = (
        idvae.calibrate(linear, x, guide=Guide(), num_replications=20, seed=3)
        for x in (X, 100 + torch.randn(7))
    )
    np.testing.assert_array_equal(one.ranks, other.ranks)


@pytest.mark.parametrize("kernel", ["vectorized", pytest.param("nuts", marks=pytest.mark.slow)])
def test_a_kernel_is_not_called_miscalibrated(kernel):
    found = idvae.calibrate(
        linear,
        X,
        kernel=kernel,
        num_replications=40,
        num_draws=19,
        mcmc_options={"warmup_steps": 60},
        **RARE,
    )
    assert found.verdict == "no miscalibration seen"
    assert found.method == kernel
    assert found.by_row
    assert found.pareto_k is None
    assert found.num_draws <= 19


def test_the_closed_form_guide_of_an_injective_model_is_judged_too():
    options = {"num_replications": 100, **RARE}
    torch.manual_seed(0)
    vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    laplace = idvae.AutoInjectiveLaplace(vae.model)
    found = idvae.calibrate(vae.model, torch.zeros(3, 5), guide=laplace, **options)
    assert found.by_row
    assert found.verdict == "no miscalibration seen"
    found = idvae.calibrate(vae.model, torch.zeros(3, 5), guide=vae.guide, **options)
    assert found.verdict == "miscalibrated"


def hierarchical(x):
    mean = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def exact(x, spread=True):
    """The posterior of the hierarchical model; without its spread, rows ignore what m is."""
    precision = 1 + len(x) / 2
    centre, sd = x.sum() / 2 / precision, precision**-0.5
    mean = pyro.sample("m", dist.Normal(centre, sd))
    with pyro.plate("data", len(x)):
        known = (mean if spread else centre) + x
        scale = 0.5**0.5 if spread else (0.5 + 0.25 * sd**2) ** 0.5
        pyro.sample("z", dist.Normal(known / 2, scale))


def test_latents_that_rows_share_take_one_run_each(capsys):
    x = torch.zeros(3)
    options = {"num_replications": 80, "num_draws": 12, "seed": 0}
    found = idvae.calibrate(hierarchical, x, guide=exact, level=1e-3, **options)
    assert not found.by_row
    assert found.verdict == "no miscalibration seen"
    assert found.ranks.shape[0] == 80
    assert found.pareto_k.shape == (80,)
    assert list(found.names[:6]) == [
        "m",
        "z, row 0",
        "z, mean of rows",
        "|m|²",
        "|z|²",
        "log p(x|z)",
    ]
    said = capsys.readouterr().err
    assert "80 data sets, one run each, as the latent site 'm' is not in the data plate" in said
    assert "the first took" in said
    found = idvae.calibrate(
        hierarchical, x, guide=lambda x: exact(x, spread=False), progress=False, **options
    )
    # Uncorrelated where the posterior is not: in every row, and so in the mean of them.
    assert {"m × z, mean of rows"} <= rejected(found) <= {"m × z, mean of rows", "m × z, row 0"}
    assert capsys.readouterr().err == ""


def test_a_kernel_runs_on_each_data_set():
    found = idvae.calibrate(
        hierarchical,
        X[:2],
        kernel="hmc",
        num_replications=10,
        num_draws=5,
        mcmc_options={"warmup_steps": 10, "kernel_options": {"num_steps": 2}},
        **QUIET,
    )
    assert not found.by_row
    assert found.ranks.shape == (10, 9)
    assert found.method == "hmc"


def mixture(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        z = pyro.sample("z", dist.Normal(3 * y, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_discrete_latents_that_are_summed_out_are_simulated_and_not_ranked():
    found = idvae.calibrate(
        mixture, X, kernel="vectorized", num_replications=100, num_draws=39, **RARE
    )
    assert list(found.names) == ["z", "|z|²", "log p(x|z)"]
    assert found.verdict == "no miscalibration seen"


def counted(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Poisson(3.0))
        pyro.sample("x", dist.Normal(y, 1.0), obs=x)


def counted_guide(x, scale=1.0):
    values = torch.arange(25.0)
    weights = dist.Poisson(3.0).log_prob(values)
    weights = weights + dist.Normal(values, scale).log_prob(x.unsqueeze(-1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Categorical(logits=weights))


def test_ties_of_discrete_latents_are_broken_at_random():
    options = {"num_replications": 100, "num_draws": 20, **RARE}
    found = idvae.calibrate(counted, X, guide=counted_guide, **options)
    assert list(found.names) == ["y, row 0", "y, mean of rows", "log p(x|z)"]
    assert found.verdict == "no miscalibration seen"
    # With so many ties, ranks of any fixed rule would be far from uniform.
    assert np.ptp(np.bincount(found.ranks[:, 0] // 7, minlength=3)) < 30
    wrong = idvae.calibrate(counted, X, guide=lambda x: counted_guide(x, 0.3), **options)
    assert wrong.verdict == "miscalibrated"


def test_chains_that_move_slowly_are_thinned_and_it_is_said():
    found = idvae.calibrate(
        linear,
        X,
        kernel="hmc",
        num_replications=20,
        num_draws=50,
        mcmc_options={
            "num_samples": 60,
            "warmup_steps": 1,
            "kernel_options": {
                "step_size": 0.05,
                "num_steps": 1,
                "adapt_step_size": False,
                "adapt_mass_matrix": False,
            },
        },
        **QUIET,
    )
    assert found.num_draws < 20
    (caution,) = found.cautions
    assert caution.startswith("chains were worth")
    assert f"caution: {caution}" in str(found)


def test_what_is_printed_says_what_was_done_and_what_would_have_been_seen():
    found = idvae.calibrate(linear, X, guide=Guide(), **RARE)
    words = str(found)
    assert words.startswith(
        "no miscalibration seen: guide, 500 simulated rows, 5 quantities, each truth among 499"
    )
    narrow, shift = found.detectable
    assert f"{100 * (1 - narrow):.0f} % too narrow or shifted by {shift:.2g} sd" in words
    assert "k-hat above 0.7 at 0 % of the rows" in words
    wrong = idvae.calibrate(linear, X, guide=Guide(0.5 * COVARIANCE), **QUIET)
    assert str(wrong).startswith("miscalibrated: guide")
    assert "too narrow" in str(wrong)
    assert "nine times" not in str(wrong)


def test_what_is_said_to_be_detectable_is_detected_nine_times_in_ten():
    narrow, shift = detectable(200, 49, 0.01)
    band = simultaneous_band(200, 49, 0.01)
    for law in ({"scale": narrow}, {"shift": shift}):
        power = exit_probability(band, 200, normal_cells(49, **law))
        assert power == pytest.approx(0.9, abs=0.01)
    assert detectable(3, 9, 0.001) == (None, None)


def test_departures_of_extreme_ranks():
    rng = np.random.default_rng(0)
    assert departure(np.full(100, 0), 99).words == "too high"
    assert departure(np.full(100, 99), 99).words == "too low"
    assert np.isnan(departure(np.full(100, 99), 99).sd_ratio)
    assert departure(99 * rng.integers(0, 2, 400), 99).words == "too narrow"
    middle = departure(rng.integers(45, 55, 400), 99)
    assert middle.words == "too wide"
    assert middle.sd_ratio > 3
    assert departure(np.full(100, 50), 100).words == "of another shape"


def test_functions_with_parameters_leave_the_store_alone():
    encoder = nn.Linear(1, 2)

    def guide(x):
        pyro.module("encoder", encoder)
        loc, scale = encoder(x.unsqueeze(-1)).unbind(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()))

    idvae.calibrate(scalar, X, guide=guide, num_replications=20, **QUIET)
    assert not list(pyro.get_param_store().keys())


AT_ONCE = "pyro_idvae.diagnostics.calibration.replications.ROWS_AT_ONCE"


def test_more_replications_than_at_once_are_ranked_some_at_a_time(monkeypatch):
    whole = idvae.calibrate(linear, X, guide=Guide(), **QUIET)
    monkeypatch.setattr(AT_ONCE, 120)
    found = idvae.calibrate(linear, X, guide=Guide(), **RARE)
    assert found.ranks.shape == whole.ranks.shape == (500, 5)
    assert found.pareto_k.shape == (500,)
    assert found.num_draws == 499
    assert found.verdict == "no miscalibration seen"
    assert (found.ranks[120:240] != found.ranks[:120]).any()
    narrow = idvae.calibrate(linear, X, guide=Guide(0.5 * COVARIANCE), **QUIET)
    assert "too narrow" in set(narrow.table["departure"])
    again = idvae.calibrate(linear, X, guide=Guide(), **RARE)
    assert (again.ranks == found.ranks).all()


def test_chains_of_later_replications_are_thinned_as_those_of_the_first(monkeypatch):
    monkeypatch.setattr(AT_ONCE, 40)
    found = idvae.calibrate(linear, X, kernel="vectorized", num_replications=100, **QUIET)
    assert found.ranks.shape == (100, 5)
    assert 0 <= found.ranks.min() <= found.ranks.max() <= found.num_draws
    assert found.pareto_k is None


def test_an_interrupt_leaves_the_replications_that_are_whole(monkeypatch):
    monkeypatch.setattr(AT_ONCE, 40)
    draw, calls = Sampling.sample, []

    def ended(sampling, bound):
        values, stats = draw(sampling, bound)
        calls.append(bound.rows)
        if len(calls) < 3:
            return values, stats
        return {n: v[:, :7] for n, v in values.items()}, {n: v[:, :7] for n, v in stats.items()}

    monkeypatch.setattr(Sampling, "sample", ended)
    with pytest.warns(UserWarning, match="interrupted: 80 of 200 replications"):
        found = idvae.calibrate(linear, X, kernel="vectorized", num_replications=200, **QUIET)
    assert calls == [40, 40, 40]
    assert not found.complete
    assert found.ranks.shape == (80, 5)
