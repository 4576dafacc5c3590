"""Do runs find the same latents? Copies, rotations, noise; every kind of run; collapsed latents."""

from functools import cache

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal

import pyro_idvae as idvae
from pyro_idvae.diagnostics.consistency.means import Means, means_of_pair
from pyro_idvae.errors import ArgumentError, DataError, ShapeError

ROWS, DIM = 60, 3
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(ROWS, DIM, generator=GENERATOR)
Z = np.random.default_rng(0).normal(size=(200, DIM))
TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0]


def noise(seed, rows=200, size=DIM):
    return np.random.default_rng(seed).normal(size=(rows, size))


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(DIM), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide_by(turn=None, scale=0.7):
    """Return a guide whose means are those of the exact posterior, turned."""
    turn = torch.eye(DIM) if turn is None else torch.as_tensor(turn, dtype=torch.float32)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ turn / 2, scale).to_event(1))

    return guide


def of(runs, *args, **options):
    return idvae.consistency(runs, *args, **options)


@cache
def of_three():
    return of({"a": Z, "turned": Z @ TURN, "noise": noise(5)})


# What is found.


def test_copies_are_the_same():
    found = of([Z, Z.copy(), Z[:, [2, 0, 1]] * [1.0, -2.0, 0.5]])
    table = found.table.loc[["mcc", "r2_permutation", "r2_affine"]]
    np.testing.assert_allclose(table[["mean", "lower", "upper", "least", "largest"]], 1.0)
    assert found.agree_up_to == "permutation"
    assert "the runs agree up to a permutation with signs and scales" in str(found)
    assert found.pairs.loc[("run 0", "run 1"), "r2_orthogonal"] == pytest.approx(1.0)
    assert found.pairs.loc[("run 0", "run 2"), "r2_orthogonal_upper"] < 1


def test_rotated_copies_are_the_same_but_for_a_rotation():
    found = of([Z, Z @ TURN])
    assert found.table.loc["r2_orthogonal", "lower"] == pytest.approx(1.0)
    assert found.table.loc["r2_permutation", "upper"] < 0.9
    assert found.table.loc["mcc", "upper"] < 0.95
    assert found.agree_up_to == "orthogonal"


def test_noise_is_not_the_same():
    found = of([noise(seed) for seed in range(3)])
    assert (found.table["mean"].abs() < 0.04).all()
    # In sample it looks better, as by chance.
    assert (found.table["in_sample"] > found.table["mean"]).all()
    assert found.table.loc["mcc", "in_sample"] > 0.06
    np.testing.assert_allclose(found.table["in_sample"], found.table["by_chance"], atol=0.03)
    assert found.agree_up_to is None
    assert "do not agree up to an affine map" in str(found)


def test_pairs_are_ordered_and_limits_hold_estimates():
    found = of_three()
    assert list(found.pairs.index) == [
        ("a", "turned"),
        ("a", "noise"),
        ("turned", "a"),
        ("turned", "noise"),
        ("noise", "a"),
        ("noise", "turned"),
    ]
    for measure in found.table.index:
        value, low, high = (found.pairs[f"{measure}{end}"] for end in ("", "_lower", "_upper"))
        assert (low <= high).all()
        inside = value.between(low - 1e-9, high + 1e-9)
        assert inside[value > 0].all()
        row = found.table.loc[measure]
        assert row["mean"] == pytest.approx(value.mean())
        assert row["least"] == pytest.approx(value.min())
        assert row["largest"] == pytest.approx(value.max())
    # MCC has no direction.
    pairs = found.pairs["mcc"]
    assert pairs["a", "noise"] == pytest.approx(pairs["noise", "a"])
    narrow = of({"a": Z, "noise": noise(5)}, confidence=0.5).pairs
    wide = of({"a": Z, "noise": noise(5)}, confidence=0.99).pairs
    assert (narrow["mcc_lower"] > wide["mcc_lower"]).all()


def test_what_one_run_has_lost_shows_in_one_direction():
    found = of({"all": Z, "some": Z[:, :2] + 0.1 * noise(4)[:, :2]})
    assert found.pairs.loc[("all", "some"), "r2_affine"] > 0.97
    assert found.pairs.loc[("some", "all"), "r2_affine"] == pytest.approx(0.66, abs=0.06)
    assert found.pairs.loc[("all", "some"), "mcc"] == pytest.approx(2 / 3, abs=0.01)
    latents = found.latents.loc["all"]
    assert (latents["r2"].iloc[:2] > 0.97).all()
    assert latents["r2"].iloc[2] < 0.1
    assert latents["correlation"].iloc[2] == 0
    assert "recovered least" in str(found)
    assert "z[2] of all" in str(found)


def test_a_mean_over_the_other_runs_and_the_least_of_them():
    latents = of_three().latents.loc["a"]
    alone = of({"a": Z, "turned": Z @ TURN}).latents.loc["a"]
    np.testing.assert_allclose(alone["r2"], 1.0)
    np.testing.assert_allclose(latents["r2"], 0.5, atol=0.05)
    assert (latents["least_r2"].abs() < 0.08).all()
    assert (latents["r2_lower"] < latents["r2"]).all()
    assert (latents["r2_upper"] > latents["r2"]).all()


def test_correlations_have_partners_on_the_diagonal():
    found = of({"a": Z, "b": Z[:, [1, 2, 0]] + 0.2 * noise(3)})
    table = found.correlations["a", "b"]
    assert list(table.index) == ["z[0]", "z[1]", "z[2]"]
    assert list(table.columns) == ["z[2]", "z[0]", "z[1]"]
    assert (np.diag(table) > 0.9).all()
    wanted = np.corrcoef(Z[:, 0], Z[:, 1] + 0.2 * noise(3)[:, 0])[0, 1]
    assert table.loc["z[0]", "z[0]"] == pytest.approx(wanted)


# Latents without variance.


def test_collapsed_latents_have_no_numbers():
    still = Z * [1.0, 1e-3, 1.0]
    found = of({"a": Z, "b": still})
    row = found.latents.loc[("b", "z[1]")]
    assert row["verdict"] == "no variance"
    assert row[["r2", "r2_lower", "r2_upper", "least_r2", "correlation"]].isna().all()
    assert found.latents["verdict"].eq("no variance").sum() == 1
    assert found.pairs.loc[("b", "a"), "latents_first"] == 2
    assert found.correlations["a", "b"].shape == (3, 2)
    assert "b: 1 of 3 latents have no variance over rows, as if collapsed" in str(found)
    assert of({"a": Z, "b": still}, threshold=1e-9).latents["verdict"].eq("").all()


def test_a_run_that_has_collapsed_explains_nothing():
    found = of({"a": Z, "b": 1e-5 * Z, "c": Z + 0.1 * noise(2)})
    assert found.pairs.loc[("b", "a"), "r2_affine"] == 0
    assert np.isnan(found.pairs.loc[("a", "b"), "r2_affine"])
    assert found.pairs.loc[("a", "b"), "mcc"] == 0
    latents = found.latents.loc["a"]
    np.testing.assert_allclose(latents["least_r2"], 0.0)
    np.testing.assert_allclose(latents["r2"], 0.5, atol=0.02)
    str(found)
    nothing = of([1e-5 * Z, 1e-5 * Z])
    assert nothing.table["mean"].isna().all()
    assert nothing.agree_up_to is None
    assert "no latent of any run has variance" in str(nothing)


def test_variance_is_a_share_of_the_latents_own():
    """A scale of the prior other than 1 makes no difference; that of arrays is taken to be 1."""

    def scaled(size):
        def wide(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(DIM), size).to_event(1))
                pyro.sample("x", dist.Normal(z / size, 1.0).to_event(1), obs=x)

        def wide_guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(size * x / 2, size * 0.7).to_event(1))

        return wide, wide_guide

    found = of([scaled(1.0), scaled(1e-3), scaled(1e3)], X)
    shares = found.latents["variance"].unstack("run")
    wanted = X.var(0) / 4 / (X.var(0) / 4 + 0.49)
    for run in shares:
        np.testing.assert_allclose(shares[run], wanted, rtol=1e-4)
    np.testing.assert_allclose(found.table.loc["r2_permutation", "mean"], 1.0)


# Kinds of runs.


def test_pairs_draws_and_arrays_are_read_alike():
    torch.manual_seed(0)
    guide = guide_by()
    drawn = idvae.from_guide(model, guide, X, num_samples=4000)
    exact = idvae.from_mcmc({"z": X / 2 + 0.5**0.5 * torch.randn(2, 2000, ROWS, DIM)}, model, X)
    found = of(
        {
            "pair": (model, guide),
            "drawn": drawn,
            "exact": exact,
            "tensor": X / 2,
            "array": X.numpy(),
        },
        X,
    )
    assert (found.pairs[["mcc", "r2_orthogonal", "r2_affine"]] > 0.99).all(axis=None)
    assert found.runs == ("pair", "drawn", "exact", "tensor", "array")
    variance = found.latents["variance"].unstack("run")
    np.testing.assert_allclose(variance["drawn"], variance["pair"], atol=0.02)


def test_a_vae_is_a_run():
    runs = []
    for seed in range(2):
        torch.manual_seed(seed)
        runs.append(idvae.IDVAE(DIM, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8]))
    found = of(runs, X, threshold=0.0)
    one = of([(vae.model, vae.guide) for vae in runs], X, threshold=0.0)
    np.testing.assert_array_equal(found.pairs, one.pairs)
    assert list(found.latents.loc["run 0"].index) == ["latent[0]", "latent[1]"]


def closed(guide, **options):
    return means_of_pair(
        "run", model, guide, ((X,), {}), var_names=None, seed=0, **{"num_samples": 400, **options}
    )


def test_means_of_normal_guides_are_closed_forms():
    turn = torch.as_tensor(TURN, dtype=torch.float32)
    for guide in (guide_by(turn), full_covariance(turn)):
        found = closed(guide, num_samples=2)
        np.testing.assert_allclose(found.values, X @ turn / 2, atol=1e-6)
        assert (found.noise == 0).all()
    share = found.values.var(0, ddof=1)
    np.testing.assert_allclose(found.share, share / (share + 0.49), rtol=1e-5)


def full_covariance(turn):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(x @ turn / 2, 0.49 * torch.eye(DIM)))

    return guide


def test_means_of_autoguides():
    for make, exact in ((AutoNormal, True), (AutoDiagonalNormal, False), (AutoDelta, False)):
        pyro.clear_param_store()
        guide = make(model)
        guide(X)
        found = closed(guide)
        median = guide.median(X)["z"].detach()
        error = 1e-6 if exact else 0.02
        np.testing.assert_allclose(found.values, median, atol=error)
        assert (found.noise == 0).all() == (make is not AutoDiagonalNormal)


def skewed(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.LogNormal(x / 4, 0.5).to_event(1))


def test_means_of_other_guides_are_of_draws():
    found = closed(skewed)
    wanted = (X / 4 + 0.125).exp()
    assert abs(found.values / wanted.numpy() - 1).max() < 0.13
    assert (found.noise > 0).all()
    assert (found.noise < 0.05).all()
    few = of([(model, skewed), (model, guide_by())], X, num_samples=10)
    assert "of the variance of posterior means is the noise of few draws" in str(few)
    assert few.notes[0].startswith("run 0: ")


def test_noise_of_draws_makes_no_latent_active():
    def prior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Laplace(torch.zeros(DIM), 1.0).to_event(1))

    found = closed(prior, num_samples=20)
    assert found.values.var(0).min() > 0.03
    assert (found.share < 0.03).all()


def test_sites_are_picked_by_name():
    def two(x):
        shared = pyro.sample("shared", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Normal(0.0, 1.0))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = torch.cat([y.unsqueeze(-1), z], -1) + shared
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def two_guide(x):
        pyro.sample("shared", dist.Normal(0.0, 0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x[:, 0] / 2, 0.7))
            pyro.sample("z", dist.Normal(x[:, 1:] / 2, 0.7).to_event(1))

    runs = [(two, two_guide), (two, two_guide)]
    assert list(of(runs, X).latents.loc["run 0"].index) == ["y", "z[0]", "z[1]"]
    assert list(of(runs, X, var_names="z").latents.loc["run 1"].index) == ["z[0]", "z[1]"]
    assert list(of(runs, X, var_names=["z", "y"]).latents.loc["run 1"].index)[-1] == "y"
    for wrong in (["shared"], ["x"], []):
        with pytest.raises(ArgumentError, match=r"expected some of \['y', 'z'\]"):
            of(runs, X, var_names=wrong)


def test_what_is_drawn_is_repeated_by_the_seed_and_moves_no_generator():
    runs = [(model, skewed), (model, guide_by())]
    state = torch.get_rng_state()
    one, same, other = (of(runs, X, seed=seed).pairs for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_scales_and_shifts_of_a_run_do_not_matter():
    b = Z @ TURN + 0.5 * noise(3)
    one, other = (of([Z, run], threshold=0.0).pairs for run in (b, 1e4 * b - 3.0))
    np.testing.assert_allclose(one, other, atol=1e-8)


# What is refused.


@pytest.mark.parametrize("rows", [23, 31])
def test_too_few_rows(rows):
    size = 2 if rows < 24 else 4
    with pytest.raises(ArgumentError, match=f"the runs have {rows} rows: expected at least"):
        of([noise(0, rows, size), noise(1, rows, size)])


def test_runs_of_other_rows():
    with pytest.raises(ShapeError, match="run 0 has 200 rows but run 1 199"):
        of([Z, Z[:-1]])
    torch.manual_seed(0)
    draws = [idvae.from_guide(model, guide_by(), x, num_samples=30) for x in (X, X + 1.0)]
    with pytest.raises(DataError, match="run 0 and run 1 differ in their observations 'x'"):
        of(draws)


def test_draws_that_are_too_few():
    few = idvae.from_guide(model, guide_by(), X, num_samples=19)
    with pytest.raises(ArgumentError, match="run 0 has 19 draws: expected at least 20"):
        of([few, few])


def test_models_without_latents_of_rows():
    def shared(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0).expand([DIM]).to_event(1), obs=x)

    def shared_guide(x):
        pyro.sample("z", dist.Normal(0.0, 0.1))

    with pytest.raises(ArgumentError, match="run 0 has no continuous latent with a value for each"):
        of([(shared, shared_guide)] * 2, X)


def test_shares_of_constant_means():
    ones = np.ones((30, 2))
    found = Means.of_parts("a", ("p", "q"), ones, 0 * ones, ones * [1.0, 0.0], observed={})
    assert found.share.tolist() == [0.0, 0.0]
    assert found.noise.tolist() == [0.0, 0.0]
