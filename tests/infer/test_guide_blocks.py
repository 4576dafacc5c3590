"""A guide's draws in blocks of rows: in memory, in a store, and what cannot be drawn so."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer.autoguide import AutoNormal

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, StoreError
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.rows import RowStore

X = torch.linspace(-2, 2, 20).reshape(10, 2)
OPTIONS = {"num_samples": 40, "block_size": 3, "seed": 4}


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        w = pyro.sample("w", dist.Gamma(2.0, 1.0))
        pyro.sample("x", dist.Normal(z + w.log().unsqueeze(-1), 0.5).to_event(1), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))
        pyro.sample("w", dist.Gamma(2.0 + 0.1 * x[:, 0], 1.0))


def other_guide(x):
    return guide(x)


def coupled_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x - x.mean(0), 0.7).to_event(1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))


def coupled_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        w = pyro.sample("w", dist.Gamma(2.0, 1.0))
        loc = z + w.mean(-1, keepdim=True).unsqueeze(-1)
        pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


OFFSETS = torch.arange(10.0)


def placed_guide(x):
    """Its draws depend on which row is the first."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal((OFFSETS[: len(x)] + 0 * x.T).T, 0.7).to_event(1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))


def summing_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.cumsum(0), 0.7).to_event(1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))


def joint_guide(x):
    """One helper moves all rows: their log q is one number."""
    e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2 + e, 0.1).to_event(1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))


def placed_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))
        loc = z + (OFFSETS[: len(x)] if len(x) <= 10 else torch.zeros(len(x))).unsqueeze(-1)
        pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


def chained_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))
        loc = z + torch.nn.functional.pad(z, (0, 0, 1, 0))[..., :-1, :]
        pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


def shared_model(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z + m, 0.5).to_event(1), obs=x)


def shared_guide(x):
    pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))


def check_same(one, other):
    groups = ("posterior", "log_likelihood", "log_prior", "sample_stats", "prior")
    for group in (*groups, "sample_stats_prior", "observed_data"):
        ours, theirs = one[group], other[group]
        assert set(ours.data_vars) == set(theirs.data_vars), group
        if group != "sample_stats":
            assert list(ours.data_vars) == list(theirs.data_vars)
        for name in ours.data_vars:
            assert ours[name].dims == theirs[name].dims, name
            np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=name)


@pytest.fixture(scope="module")
def in_blocks():
    return idvae.from_guide(model, guide, X, posterior_predictive=True, **OPTIONS)


def test_blocks_have_all_that_draws_of_all_rows_have(in_blocks):
    torch.manual_seed(0)
    whole = idvae.from_guide(model, guide, X, num_samples=40, posterior_predictive=True)
    for group in ("posterior", "prior", "sample_stats", "posterior_predictive", "observed_data"):
        assert set(in_blocks[group].data_vars) == set(whole[group].data_vars)
        for name in whole[group].data_vars:
            assert in_blocks[group][name].dims == whole[group][name].dims
            assert in_blocks[group][name].shape == whole[group][name].shape
    assert in_blocks["posterior"].attrs["independent_draws"] == 1
    # They are of the same law: means of 40 draws, in standard errors of their difference.
    gap = (in_blocks["posterior"]["z"] - whole["posterior"]["z"]).mean("draw").values
    assert np.abs(gap).max() < 4 * 0.7 * np.sqrt(2 / 40)
    assert "limit_mean_z" in in_blocks["sample_stats"]


def test_each_block_is_scored_as_all_rows_are(in_blocks):
    values = {n: torch.as_tensor(in_blocks["posterior"][n].values) for n in ("z", "w")}
    whole = idvae.from_mcmc(values, model, X, num_limit_draws=0)
    for name in ("x",):
        ours, theirs = (d["log_likelihood"][name].values for d in (in_blocks, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert str(idvae.collapse_report(in_blocks))


def test_a_seed_repeats_draws_and_so_does_the_generator(in_blocks):
    again = idvae.from_guide(model, guide, X, posterior_predictive=True, **OPTIONS)
    check_same(again, in_blocks)
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        data = idvae.from_guide(model, guide, X, num_samples=5, block_size=4)
        drawn.append(data["posterior"]["z"].values)
    assert (drawn[0] == drawn[1]).all()
    # One seed, all rows at once.
    one, other = (
        idvae.from_guide(model, guide, X, num_samples=5, seed=3)["posterior"]["z"].values
        for _ in range(2)
    )
    assert (one == other).all()


def test_rows_of_a_block_do_not_depend_on_the_others(in_blocks):
    other = X.clone()
    other[3:] += 1.0
    changed = idvae.from_guide(model, guide, other, **OPTIONS)
    for name in ("z", "w"):
        ours, theirs = (d["posterior"][name].values[:, :, :3] for d in (in_blocks, changed))
        assert (ours == theirs).all()


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (
            (coupled_model, guide),
            "'x' of a row depends on others: its draws cannot be made",
        ),
        ((model, coupled_guide), "the guide's density of a row depends on the data of other rows"),
        ((shared_model, shared_guide), "'m' is one for all rows"),
        (
            (model, placed_guide),
            "depends on the data of other rows|to certain rows",
        ),
        ((model, summing_guide), "the guide's density of a row depends on the data of other rows"),
        ((model, joint_guide), "the guide has no density of single rows, given its draws"),
        ((placed_model, guide), "depends on|belong to certain rows"),
        ((chained_model, guide), "depends on"),
        ((model, "auto"), "parameters of the guide belong to certain rows"),
    ],
)
@pytest.mark.parametrize("where", ["block_size", "store"])
def test_rows_that_are_not_apart_are_refused(tmp_path, pair, words, where):
    program, q = pair
    if q == "auto":
        q = AutoNormal(model)
        q(X)
    if where == "store":
        pytest.importorskip("zarr")
    options = {"block_size": 3} if where == "block_size" else {"store": tmp_path / "draws"}
    before = torch.get_rng_state()
    with pytest.raises(ArgumentError, match=words):
        idvae.from_guide(program, q, X, num_samples=5, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert not (tmp_path / "draws").exists()


@pytest.mark.parametrize("options", [{"block_size": 0}, {"seed": -1}, {"num_samples": 0}])
def test_options_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ArgumentError, match=f"{name}="):
        idvae.from_guide(model, guide, X, **options)


def test_a_store_holds_what_memory_would(tmp_path, in_blocks):
    pytest.importorskip("zarr")
    options = {"posterior_predictive": True, **OPTIONS}
    found = idvae.from_guide(model, guide, X, store=tmp_path / "draws", **options)
    check_same(found, in_blocks)
    assert found["posterior"].attrs["complete"] == 1
    assert found["posterior"].attrs["independent_draws"] == 1
    assert type(found["posterior"]["z"].variable._data).__name__ != "ndarray"
    attrs = dict(found["posterior"].attrs)
    assert {*in_blocks["posterior"].attrs} <= {*attrs}
    # By xarray alone, too.
    raw = xr.open_zarr(tmp_path / "draws/draws.zarr", group="prior", consolidated=False)
    assert {k: v for k, v in raw.attrs.items() if k in attrs} == attrs
    assert str(idvae.collapse_report(found)) == str(idvae.collapse_report(in_blocks))


def test_a_store_goes_on_and_refuses_another_guide(tmp_path, monkeypatch, in_blocks):
    pytest.importorskip("zarr")
    folder, write = tmp_path / "draws", RowStore._finished
    seen = []

    def ended(store, *given):
        seen.append(given)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return write(store, *given)

    options = {"posterior_predictive": True, **OPTIONS}
    monkeypatch.setattr(RowStore, "_finished", ended)
    with pytest.warns(UserWarning, match="6 of 10 data points"):
        idvae.from_guide(model, guide, X, store=folder, **options)
    assert Journal(folder).done() == [0, 1]
    assert idvae.open_draws(folder)["posterior"]["z"].shape == (1, 40, 6, 2)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="its guide is not that of this call"):
        idvae.from_guide(model, other_guide, X, store=folder, **options)
    check_same(idvae.from_guide(model, guide, X, store=folder, **options), in_blocks)


def test_a_guide_whose_rows_are_many_takes_its_own_blocks(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.setattr("pyro_idvae.infer.guide_sampling.DRAWS_AT_ONCE", 4 * 20)
    found = idvae.from_guide(model, guide, X, num_samples=20, store=tmp_path / "draws")
    assert Journal(tmp_path / "draws").record["block_size"] == 4
    assert found["posterior"]["z"].shape == (1, 20, 10, 2)


def test_a_mean_over_many_rows_is_seen(tmp_path):
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ArgumentError, match="depends on the data of other rows"):
        idvae.from_guide(model, coupled_guide, x, num_samples=2, block_size=1000)


def made(scale):
    def closure(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, scale).to_event(1))
            pyro.sample("w", dist.Gamma(2.0, 1.0))

    return closure


def test_a_store_tells_guides_of_one_name_apart(tmp_path):
    pytest.importorskip("zarr")
    options = {"num_samples": 20, "seed": 0, "store": tmp_path / "draws"}
    first = idvae.from_guide(model, made(0.1), X, **options)["posterior"]["z"].values
    with pytest.raises(StoreError, match="its log density of a draw is not that of this call"):
        idvae.from_guide(model, made(3.0), X, **options)
    again = idvae.from_guide(model, made(0.1), X, **options)["posterior"]["z"].values
    assert (first == again).all()
