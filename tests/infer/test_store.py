"""Draws in a store: those that memory would hold, whatever ended the runs that made them."""

import builtins
import json
import shutil
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, StoreError
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.infer.store.chains import ChainStore
from pyro_idvae.infer.store.journal import Journal
from tests.processes import printed

pytest.importorskip("zarr")

X = torch.linspace(-1, 1, 10)
OPTIONS = {
    "kernel": "vectorized",
    "num_samples": 30,
    "warmup_steps": 20,
    "num_chains": 2,
    "block_size": 3,
    "progress": False,
}


def summed(x):
    """Two latents of which the data see the sum: there is a direction to find."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 0.3), obs=x)


def injective(x):
    torch.manual_seed(0)
    vae = idvae.IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    return vae.model, torch.linspace(-1, 1, 4 * len(x)).reshape(-1, 4)


def check_same(one, other):
    groups = ("posterior", "log_likelihood", "log_prior", "sample_stats", "prior")
    for group in (*groups, "sample_stats_prior", "observed_data"):
        ours, theirs = one[group], other[group]
        assert set(ours.data_vars) == set(theirs.data_vars), group
        assert set(ours.coords) == set(theirs.coords), group
        for name in (*ours.data_vars, *ours.coords):
            assert ours[name].dims == theirs[name].dims, name
            assert ours[name].dtype.kind == theirs[name].dtype.kind, name
            np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=name)


@pytest.fixture(scope="module")
def in_memory():
    return idvae.mcmc(summed, X, seed=1, **OPTIONS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "draws"
    idvae.mcmc(summed, X, seed=1, store=folder, **OPTIONS)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "draws")


def left_at(folder, done):
    """Make a finished store one whose run was ended when these blocks were done."""
    (folder / "closed.json").unlink()
    (folder / "done-0.txt").write_text("".join(f"\n{number:010}" for number in done))
    return folder


def test_a_store_holds_what_memory_would(finished, in_memory):
    found = idvae.open_draws(finished)
    check_same(found, in_memory)
    assert found["posterior"].attrs["complete"] == 1
    assert "loadings_row" in found["sample_stats"]
    assert str(idvae.collapse_report(found)) == str(idvae.collapse_report(in_memory))


def test_an_injective_model_and_its_predictions_are_stored_too(tmp_path):
    model, x = injective(X)
    options = {**OPTIONS, "posterior_predictive": True, "seed": 2}
    options |= {"coords": {"cell": [f"c{i}" for i in range(10)]}, "dims": {"latent": ["factor"]}}
    wanted = idvae.mcmc(model, x, **options)
    found = idvae.mcmc(model, x, store=tmp_path / "draws", **options)
    check_same(found, wanted)
    predicted = found["posterior_predictive"]["obs"]
    assert predicted.dims[2] == "cell"
    assert (predicted.values == wanted["posterior_predictive"]["obs"].values).all()


def test_arrays_stay_on_the_disk_until_they_are_asked_for(finished):
    variable = idvae.open_draws(finished)["posterior"]["z"].variable
    assert type(variable._data).__name__ != "ndarray"
    assert variable[:, :, 2:4].values.shape == (2, 30, 2, 2)


def test_no_array_is_there_before_its_dimensions_are_said(tmp_path, monkeypatch):
    zarr, folder = pytest.importorskip("zarr"), tmp_path / "draws"
    write, bare, writes = zarr.storage.LocalStore.set, [], 0

    async def watched(store, key, value):
        nonlocal writes
        writes += 1
        await write(store, key, value)
        for array in folder.glob("draws.zarr/*/*/.zarray"):
            said = array.with_name(".zattrs")
            if not said.exists() or "_ARRAY_DIMENSIONS" not in json.loads(said.read_text()):
                bare.append(f"{array.parent.name} at {key}")

    monkeypatch.setattr(zarr.storage.LocalStore, "set", watched)
    idvae.mcmc(summed, X, seed=1, store=folder, **OPTIONS)
    assert writes > 100
    assert not bare


def test_a_finished_call_is_not_done_again(copied, monkeypatch, in_memory):
    monkeypatch.setattr(Sampling, "of_blocks", None)  # which cannot be called
    check_same(idvae.mcmc(summed, X, seed=1, store=copied, **OPTIONS), in_memory)


@pytest.mark.parametrize("done", [[], [1], [0, 1, 2], [3, 1], [0, 1, 2, 3]])
def test_an_ended_run_has_the_rows_that_are_done_and_goes_on(copied, in_memory, done):
    left_at(copied, done)
    found = idvae.open_draws(copied)
    rows = [row for number in sorted(done) for row in range(3 * number, min(3 * number + 3, 10))]
    assert found["posterior"].attrs["complete"] == 0
    assert found["posterior"]["z"].shape == (2, 30, len(rows), 2)
    if done:
        assert found["posterior"]["data"].values.tolist() == rows
        wanted = in_memory["posterior"]["z"].values[:, :, rows]
        assert (found["posterior"]["z"].values == wanted).all()
        assert {"energy", "loadings_row"}.isdisjoint(found["sample_stats"].data_vars)
        assert "The draws are incomplete" in str(idvae.collapse_report(found))
    # What another process wrote of a block that is not done is written anew.
    check_same(idvae.mcmc(summed, X, seed=1, store=copied, **OPTIONS), in_memory)


def test_a_line_that_was_being_written_does_not_count(copied):
    left_at(copied, [0, 2])
    with (copied / "done-0.txt").open("a") as lines:
        lines.write("\n00000000")
    assert Journal(copied).done() == [0, 2]
    Journal(copied).mark(3, 0)
    assert Journal(copied).done() == [0, 2, 3]


def test_ctrl_c_leaves_what_is_done_and_the_same_call_goes_on(tmp_path, monkeypatch, in_memory):
    calls = []
    whole = Sampling.of_blocks

    def interrupted(self, *given, **options):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, *given, **options)

    monkeypatch.setattr(Sampling, "of_blocks", interrupted)
    with pytest.warns(UserWarning, match=r"6 of 10 data points are in the store .*goes on"):
        found = idvae.mcmc(summed, X, seed=1, store=tmp_path / "draws", **OPTIONS)
    assert found["posterior"]["z"].shape[2] == 6
    check_same(idvae.mcmc(summed, X, seed=1, store=tmp_path / "draws", **OPTIONS), in_memory)
    assert len(calls) == 5


def test_ctrl_c_before_anything_is_done_is_raised(tmp_path, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampling, "of_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        idvae.mcmc(summed, X, store=tmp_path / "draws", **OPTIONS)
    assert idvae.open_draws(tmp_path / "draws")["posterior"]["z"].shape == (2, 30, 0, 2)


def test_without_a_seed_a_run_goes_on_with_its_own(copied, in_memory):
    left_at(copied, [1])
    torch.manual_seed(77)
    options = {name: value for name, value in OPTIONS.items() if name != "block_size"}
    check_same(idvae.mcmc(summed, X, store=copied, **options), in_memory)


def other(x):
    return summed(x)


@pytest.mark.parametrize(
    ("model", "x", "changed", "words"),
    [
        (other, X, {}, "model"),
        (summed, X + 1, {}, "data"),
        (summed, X, {"seed": 2}, "seed"),
        (summed, X, {"num_samples": 31}, "options.*num_samples"),
        (summed, X, {"num_chains": 3}, "options.*num_chains"),
        (summed, X, {"warmup_steps": 21}, "options.*warmup_steps"),
        (summed, X, {"num_limit_draws": 0}, "options.*num_limit_draws"),
        (summed, X, {"block_size": 4}, "block_size"),
        (summed, X, {"coords": {"cell": list("abcdefghij")}}, "dims|labels"),
    ],
)
def test_a_store_of_another_call_is_refused_and_left_alone(copied, model, x, changed, words):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.name != "lock"}
    generator = torch.get_rng_state()
    with pytest.raises(StoreError, match=f"another call: its ({words})"):
        idvae.mcmc(model, x, store=copied, **{"seed": 1, **OPTIONS, **changed})
    after = {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.name != "lock"}
    assert after == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_other_weights_are_another_call(tmp_path):
    model, x = injective(X)
    options = {**OPTIONS, "num_limit_draws": 0}
    idvae.mcmc(model, x, store=tmp_path / "draws", **options)
    with torch.no_grad():
        next(iter(model.parameters())).add_(0.1)
    with pytest.raises(StoreError, match="its parameters is not that of this call"):
        idvae.mcmc(model, x, store=tmp_path / "draws", **options)


def test_two_runs_do_not_write_to_one_store(copied):
    left_at(copied, [1])
    with Journal(copied).alone(), pytest.raises(StoreError, match="another process"):
        idvae.mcmc(summed, X, seed=1, store=copied, **OPTIONS)
    with Journal(copied).alone():
        assert idvae.open_draws(copied)["posterior"]["z"].shape[2] == 3


@pytest.mark.parametrize(
    ("store", "kind", "words"),
    [
        (3, ArgumentError, "store=3: expected the path"),
        ("", ArgumentError, "expected the path"),
        ("file", StoreError, "something else is there"),
        ("full", StoreError, "something else is there"),
        ("file/draws", StoreError, "cannot be written"),
    ],
)
def test_a_bad_place_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, store, kind, words):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/notes").write_text("mine")
    before = torch.get_rng_state()
    with pytest.raises(kind, match=words):
        idvae.mcmc(summed, X, store=store, **OPTIONS)
    assert torch.equal(torch.get_rng_state(), before)
    assert Path("file").read_text() == Path("full/notes").read_text() == "mine"


def shared(x):
    m = pyro.sample("m", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    s = pyro.sample("s", dist.Gamma(2.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m.sum(), s), obs=x)


JOINT = {"num_samples": 70, "warmup_steps": 30, "num_chains": 2, "seed": 3, "progress": False}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (summed, {"kernel": "nuts"}),
        (shared, {"kernel": "nuts", "kernel_options": {"full_mass": True, "max_tree_depth": 4}}),
        (
            shared,
            {"kernel": "hmc", "kernel_options": {"num_steps": 3}, "posterior_predictive": True},
        ),
    ],
)
def test_joint_posteriors_go_on_with_their_adaptation(tmp_path, monkeypatch, model, options):
    """Cut off in the warm-up of a chain, in its draws, and when all are there."""
    options = {**JOINT, **options}
    wanted = idvae.mcmc(model, X[:3], **options)
    whole, written, folder = ChainStore._note, [], tmp_path / "draws"

    def cut(number):
        def note(self, chain, state):
            whole(self, chain, state)
            written.append((chain, state.draws))
            if len(written) == number:
                raise KeyboardInterrupt

        return note

    for number, (chains, draws) in {1: (1, 50), 3: (2, 50), 4: (2, 70)}.items():
        monkeypatch.setattr(ChainStore, "_note", cut(number))
        with pytest.warns(UserWarning, match=f"interrupted: {chains} chains of {draws} draws"):
            left = idvae.mcmc(model, X[:3], store=folder, **options)
        assert left["posterior"].attrs["complete"] == 0
        for name, values in left["posterior"].data_vars.items():
            whole_chains = wanted["posterior"][name].values
            assert (values.values == whole_chains[:chains, :draws]).all()
        assert set(left["sample_stats"]) == {"acceptance_rate", "diverging", "energy", "step_size"}
    check_same(idvae.mcmc(model, X[:3], store=folder, **options), wanted)
    assert written == [(0, 50), (0, 70), (1, 50), (1, 70)]


def test_statistics_of_chains_are_of_the_type_they_are_drawn_in(tmp_path):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        options = {**JOINT, "num_samples": 5, "warmup_steps": 5, "kernel": "hmc"}
        wanted = idvae.mcmc(shared, X[:3].double(), **options)
        check_same(idvae.mcmc(shared, X[:3].double(), store=tmp_path / "d", **options), wanted)
        found = idvae.open_draws(tmp_path / "d")["sample_stats"]["energy"]
        assert found.dtype == np.float64
    finally:
        torch.set_default_dtype(before)


def test_chains_of_other_options_are_refused(tmp_path):
    options = {**JOINT, "num_samples": 5, "warmup_steps": 5, "kernel": "hmc"}
    idvae.mcmc(shared, X[:3], store=tmp_path / "draws", **options)
    for changed, words in (
        ({"kernel": "nuts"}, "kernel"),
        ({"kernel_options": {"num_steps": 2}}, "kernel_options"),
        ({"num_chains": 3}, "num_chains"),
    ):
        with pytest.raises(StoreError, match=f"another call.*'{words}'"):
            idvae.mcmc(shared, X[:3], store=tmp_path / "draws", **{**options, **changed})
    with pytest.raises(ArgumentError, match="parallel=True: leave out parallel"):
        idvae.mcmc(shared, X[:3], store=tmp_path / "other", parallel=True, **options)


def test_what_is_no_store_is_not_opened(tmp_path, copied):
    with pytest.raises(StoreError, match="is no store of draws"):
        idvae.open_draws(tmp_path / "none")
    with pytest.raises(ArgumentError, match="path=3"):
        idvae.open_draws(3)
    record = json.loads((copied / "store.json").read_text())
    (copied / "store.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(StoreError, match="has the format 99"):
        idvae.open_draws(copied)
    (copied / "store.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        idvae.open_draws(copied)


def test_without_zarr_it_is_said_what_to_install(tmp_path, monkeypatch, finished):
    real = builtins.__import__

    def missing(name, *given, **options):
        if name == "zarr":
            raise ImportError(name)
        return real(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    for call in (
        lambda: idvae.mcmc(summed, X, store=tmp_path / "draws", **OPTIONS),
        lambda: idvae.open_draws(finished),
    ):
        with pytest.raises(StoreError, match=r"pip install 'pyro_idvae\[store\]'"):
            call()
    assert not (tmp_path / "draws").exists()


def test_a_run_that_was_killed_is_the_run_that_was_not():
    found = printed("infer/store_script.py", "vectorized", 1, 2, 0)
    assert len(found["moments"]) == 2
    assert found["looked"] > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "ranks"),
    [
        ("vectorized", 1),
        ("vectorized", 2),
        ("nuts", 1),
        ("nuts", 2),
        ("hmc", 1),
        ("guide", 1),
        ("guide", 2),
    ],
)
def test_runs_killed_again_and_again(kernel, ranks):
    found = printed("infer/store_script.py", kernel, ranks, 20, 1)
    assert len(found["moments"]) == 20
    assert len(set(found["moments"])) >= 5
    assert found["looked"] >= 40
