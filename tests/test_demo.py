import csv
import signal
import sys

import arviz
import numpy as np
import pytest
from pyro.infer import NUTS

from pyro_idvae import __main__
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.datasets import digits
from pyro_idvae.experiments import demo, training
from pyro_idvae.experiments import digits as experiment
from pyro_idvae.experiments.__main__ import main as run_experiment


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def run(monkeypatch, out, *options):
    monkeypatch.setattr(demo, "EVIDENCE", {"num_chains": 4, "num_temperatures": 2})
    monkeypatch.setattr(demo, "NUM_JUDGED", 10)
    monkeypatch.setattr(
        sys, "argv", ["pyro_idvae", "--out", str(out), "--epochs", "2", "--draws", "7", *options]
    )
    __main__.main()


def leave_pictures_out(monkeypatch):
    for picture in ("reconstructions", "walk"):
        monkeypatch.setattr(demo, f"_plot_{picture}", lambda *args: args[-1].touch())


def test_the_demo_writes_what_it_says_and_repeats_itself(monkeypatch, tmp_path, capsys):
    run(monkeypatch, tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "latent_walk.png",
        "losses.png",
        "posterior.nc",
        "prior_posterior.png",
        "reconstructions.png",
        "summary.csv",
    ]
    text = capsys.readouterr().out
    assert "not identifiable" in text
    rows = read(tmp_path / "a" / "summary.csv")
    assert [row["model"] for row in rows] == ["VAE", "IDVAE"]
    assert abs(int(rows[0]["parameters"]) / int(rows[1]["parameters"]) - 1) < 0.1
    data = groups_of(arviz.from_netcdf(str(tmp_path / "a" / "posterior.nc")))
    assert data["posterior"]["latent"].shape == (2, 7, 3, 16)
    leave_pictures_out(monkeypatch)
    run(monkeypatch, tmp_path / "b")
    again = read(tmp_path / "b" / "summary.csv")
    for row in (*rows, *again):
        row.pop("seconds")
    assert rows == again
    other = groups_of(arviz.from_netcdf(str(tmp_path / "b" / "posterior.nc")))
    np.testing.assert_array_equal(data["posterior"]["latent"], other["posterior"]["latent"])


PICTURES = {"losses.png", "reconstructions.png", "latent_walk.png"}


def pressing(monkeypatch, moment):
    """Press Ctrl-C at one call of NUTS, in a demo that judges by few draws."""
    count, find, judge = [0], NUTS.sample, demo.judge

    def quick(*args, num_samples, **options):
        return judge(*args, num_samples=20, **options)

    def pressed(self, params):
        count[0] += 1
        if count[0] == moment:
            signal.raise_signal(signal.SIGINT)
        return find(self, params)

    monkeypatch.setattr(demo, "judge", quick)
    monkeypatch.setattr(NUTS, "sample", pressed)


def test_the_demo_keeps_what_is_finished_when_it_is_interrupted(monkeypatch, tmp_path, capsys):
    # Seven steps of warm-up and seven draws of one chain, then six draws of the other.
    pressing(monkeypatch, 28)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, tmp_path)
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == f"interrupted: what was finished is in {tmp_path}"
    files = {p.name for p in tmp_path.iterdir()}
    assert files == PICTURES | {"summary.csv", "posterior.nc", "prior_posterior.png"}
    data = groups_of(arviz.from_netcdf(str(tmp_path / "posterior.nc")))
    assert data["posterior"].attrs["complete"] == 0
    assert data["posterior"]["latent"].shape == (2, 6, 3, 16)
    monkeypatch.setattr(demo, "train", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, tmp_path / "training")
    assert ended.value.code == 130
    assert not list((tmp_path / "training").iterdir())


@pytest.mark.slow
def test_before_the_first_draw_there_is_no_posterior_to_keep(monkeypatch, tmp_path):
    pressing(monkeypatch, 2)
    leave_pictures_out(monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, tmp_path)
    assert ended.value.code == 130
    assert {p.name for p in tmp_path.iterdir()} == PICTURES | {"summary.csv"}


@pytest.mark.slow
def test_the_digits_experiment_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training, "LEARNING_RATES", (1e-3,))
    monkeypatch.setattr(training, "LARGEST_RATE", 2e-3)
    monkeypatch.setattr(experiment, "FLOORS", (1.0,))
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "x",
            "digits",
            "--out",
            str(tmp_path),
            "--seeds=2",
            "--epochs=1",
            "--samples=20",
            "--images=10",
        ],
    )
    run_experiment()
    files = {p.name for p in (tmp_path / "digits").iterdir()}
    assert files == {
        "digits.csv",
        "digits.png",
        "options.json",
        "training.csv",
        "tuning.csv",
        "weights",
    }
    rows = read(tmp_path / "digits" / "digits.csv")
    assert len(rows) == 4
    assert "IDVAE, L ≥ 1" in capsys.readouterr().out


def test_the_digits_are_whole_and_split():
    data = digits(num_test=100, seed=1)
    assert data.train.shape == (1697, 64)
    assert data.test.shape == (100, 64)
    assert len(data.train_labels) == 1697
    assert data.train.min() == 0
    assert data.train.max() == 16
    assert (data.train == data.train.round()).all()
    assert set(data.test_labels.tolist()) == set(range(10))
    with pytest.raises(ValueError, match="num_test=1797"):
        digits(num_test=1797)


def test_the_digits_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="examples"):
        digits()
