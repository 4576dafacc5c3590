"""The seam to ArviZ. Needs no torch: it is run with ArviZ 0.23 and with ArviZ 1.x."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SOURCE = Path(__file__).parent.parent / "pyro_idvae" / "arviz_io.py"


def load_seam():
    spec = importlib.util.spec_from_file_location("seam", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


seam = load_seam()
az = seam.az


def example():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4, 50, 3, 2))
    groups = {
        "posterior": {"z": seam.Variable(draws, ("data", "z_dim_0"))},
        "prior": {"z": seam.Variable(draws[:1], ("data", "z_dim_0"))},
        "log_likelihood": {"x": seam.Variable(draws[..., 0], ("data",))},
        "log_prior": {"z": seam.Variable(draws[..., 1], ("data",))},
        "sample_stats": {"diverging": seam.Variable(draws[..., 0, 0] > 9, ())},
        "sample_stats_prior": {"log_likelihood": seam.Variable(draws[:1, ..., 0], ("data",))},
        "observed_data": {"x": seam.Variable(draws[0, 0], ("data", "x_dim_0"))},
        "posterior_predictive": {},
    }
    return seam.to_arviz(groups, coords={"data": ["a", "b", "c"]}, attrs={"made_by": "test"})


def test_the_object_is_the_versions_own():
    data = example()
    name = type(data).__name__
    assert name == ("InferenceData" if az.__version__.startswith("0.") else "DataTree")


def test_groups_dims_and_coords():
    groups = seam.groups_of(example())
    assert sorted(groups) == [
        "log_likelihood",
        "log_prior",
        "observed_data",
        "posterior",
        "prior",
        "sample_stats",
        "sample_stats_prior",
    ]
    posterior = groups["posterior"]
    assert posterior["z"].dims == ("chain", "draw", "data", "z_dim_0")
    assert list(posterior["data"].values) == ["a", "b", "c"]
    assert posterior.attrs["made_by"] == "test"
    assert groups["log_likelihood"]["x"].dims == ("chain", "draw", "data")
    assert groups["observed_data"]["x"].dims == ("data", "x_dim_0")
    assert groups["sample_stats"]["diverging"].dtype == bool


def test_arviz_itself_can_use_it():
    data = example()
    summary = az.summary(data)
    assert len(summary) == 6
    rhat = az.rhat(data)
    values = rhat["z"] if "z" in rhat else rhat.to_dataset()["z"]
    assert float(abs(values - 1).max()) < 0.1


def test_it_survives_a_file(tmp_path):
    path = tmp_path / "data.nc"
    seam.save_netcdf(example(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["data.nc"]
    back = az.from_netcdf(str(path))
    groups = seam.groups_of(back)
    np.testing.assert_allclose(
        groups["posterior"]["z"], seam.groups_of(example())["posterior"]["z"]
    )


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_may_be_a_string_and_replaces_what_was_there(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("draws.nc").write_text("something else")
    Path("draws.nc").chmod(0o640)
    seam.save_netcdf(example(), kind("draws.nc"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["draws.nc"]
    assert Path("draws.nc").stat().st_mode & 0o777 == 0o640
    assert "posterior" in seam.groups_of(az.from_netcdf("draws.nc"))


def test_a_path_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("kept")
    for path in ("none/draws.nc", "folder", "file/draws.nc", "", ".", "a\0b", "/dev/null"):
        with pytest.raises(seam.ArgumentError, match="cannot be written"):
            seam.save_netcdf(example(), path)
    for path in (None, 3, b"draws.nc", ["draws.nc"]):
        with pytest.raises(seam.ArgumentError, match="expected a file's name"):
            seam.save_netcdf(example(), path)
    with pytest.raises(TypeError, match="expected ArviZ data"):
        seam.save_netcdf("draws", "draws.nc")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert Path("file").read_text() == "kept"


def test_an_error_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "draws.nc"
    seam.save_netcdf(example(), path)
    before = path.read_bytes()

    class Broken:
        groups = staticmethod(lambda: [])

        def to_netcdf(self, name, engine):
            Path(name).write_bytes(before[:1000])
            raise OSError(28, "No space left on device")

    with pytest.raises(seam.ArgumentError, match="No space left"):
        seam.save_netcdf(Broken(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["draws.nc"]


def test_wrong_dimensions_are_refused():
    with pytest.raises(ValueError, match="posterior/z has shape"):
        seam.to_arviz({"posterior": {"z": seam.Variable(np.zeros((1, 2, 3)), ())}})


@pytest.mark.parametrize("true_k", [0.2, 0.5, 0.9])
def test_pareto_k_finds_the_tail_index(true_k):
    rng = np.random.default_rng(1)
    weights = rng.pareto(1 / true_k, size=(20, 4000)) + 1
    found = seam.pareto_k(np.log(weights))
    assert found.shape == (20,)
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - true_k) < 0.05 + 4 * error


@pytest.mark.parametrize("number", [30, 33, 225, 226, 1000, 5001])
def test_k_is_that_of_all_weights_and_needs_the_largest_alone(number):
    rng = np.random.default_rng(2)
    weights = np.log(rng.pareto(1 / 0.7, size=(4, number)) + 1)
    weights[0, ::2] = weights[0].min()
    weights[1] *= 30
    if seam.LEGACY:
        expected = seam.az.psislw(weights)[1]
    else:
        from arviz_stats.base import array_stats

        expected = array_stats.psislw(-weights)[1]
    assert seam.pareto_k(weights).tolist() == expected.tolist()
    tails = np.sort(weights)[:, -seam.tail_size(number) :]
    assert tails.shape[1] < number
    assert seam.pareto_k(rng.permuted(tails, axis=1), number=number).tolist() == expected.tolist()


def test_equal_weights_have_a_small_k():
    rng = np.random.default_rng(1)
    assert (seam.pareto_k(0.01 * rng.normal(size=(3, 1000))) < 0.5).all()


def test_the_density_integrates_to_one():
    grid, height = seam.density(np.random.default_rng(0).normal(size=(4, 500)))
    assert np.trapezoid(height, grid) == pytest.approx(1.0, abs=0.02)
    assert grid[height.argmax()] == pytest.approx(0.0, abs=0.3)


def test_too_few_weights_have_no_k_on_either_version():
    rng = np.random.default_rng(0)
    assert np.isnan(seam.pareto_k(rng.normal(size=(3, 29)))).all()
    assert np.isfinite(seam.pareto_k(rng.normal(size=(3, 30)))).all()
    assert seam.pareto_k(np.zeros((0, 1000))).shape == (0,)
    assert seam.pareto_k(np.zeros((2, 3, 100))).tolist() == [[0.0] * 3] * 2


def test_weights_equal_up_to_rounding_have_no_tail():
    """A tail fitted to rounding has any k: infinite where fewer than five weights are above it."""
    rng = np.random.default_rng(0)
    steps = rng.integers(-1, 2, size=(500, 1000)) * (rng.random((500, 1000)) < 0.1)
    weights = -100.0 + np.spacing(100.0) * steps
    assert (seam.pareto_k(weights) == 0).all()
    coarse = -1e5 + 0.008 * steps
    assert (seam.pareto_k(coarse, rounding=0.05) == 0).all()
    limits = np.where(np.arange(500) < 250, 0.05, 5.0)
    found = seam.pareto_k(coarse, rounding=limits)
    assert (found[:250] == 0).all()
    assert np.isnan(found[250:]).all()


def test_weights_of_zero_have_a_tail_and_weights_of_no_number_none():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 400))
    weights[1, :100] = -np.inf
    weights[2, 0] = np.nan
    weights[3, 0] = np.inf
    weights[4] = -np.inf
    k = seam.pareto_k(weights)
    assert np.isfinite(k[:2]).all()
    assert np.isnan(k[2:]).all()
