"""The experiment on seeds: its files, and going on where it was interrupted."""

import sys

import pandas as pd
import pytest

from pyro_idvae.experiments import consistency, training
from pyro_idvae.experiments.__main__ import main
from pyro_idvae.models import VAE


class Result:
    def __init__(self, rate):
        self.validation_losses = [abs(rate - 2e-3)]
        self.best_epoch, self.wall_time = 1, 0.1


def train(fits, interrupted_at=None):
    """Leave models as they are made: what is trained is looked at elsewhere."""

    def fake(vae, images, *, learning_rate, num_epochs, seed, progress):
        assert isinstance(vae, VAE)
        fits.append(seed)
        if len(fits) == interrupted_at:
            raise KeyboardInterrupt
        return Result(learning_rate)

    return fake


def run(monkeypatch, out, *options):
    monkeypatch.setattr(sys, "argv", ["x", "consistency", "--out", str(out), "--quick", *options])
    main()


def test_seeds_are_held_against_each_other(monkeypatch, tmp_path, capsys):
    fits = []
    monkeypatch.setattr(training, "train", train(fits))
    run(monkeypatch, tmp_path)
    assert len(fits) == 3 * (3 + consistency.LEAST_SEEDS)
    out = tmp_path / "consistency"
    table = pd.read_csv(out / "consistency.csv")
    names = list(consistency.makers())
    assert list(table["model"]) == [name for name in names for _ in range(4)]
    assert list(table["measure"][:4]) == ["mcc", "r2_permutation", "r2_orthogonal", "r2_affine"]
    # Encoders as they are made have latents that say next to nothing alike.
    latents = pd.read_csv(out / "latents.csv")
    assert len(latents) == 3 * consistency.LEAST_SEEDS * 16
    assert set(latents["run"]) == {"seed 0", "seed 1"}
    assert (out / "consistency.png").stat().st_size > 1000
    said = capsys.readouterr().out
    for name in names:
        assert f"{name}: latents of 2 runs on 360 rows" in said


@pytest.mark.parametrize("moment", [2, 4, 9])
def test_what_was_trained_is_not_trained_again(monkeypatch, tmp_path, moment, capsys):
    fits, rest = [], []
    monkeypatch.setattr(training, "train", train(fits, moment))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, tmp_path)
    assert ended.value.code == 130
    assert not (tmp_path / "consistency" / "consistency.csv").exists()
    monkeypatch.setattr(training, "train", train(rest))
    run(monkeypatch, tmp_path, "--resume")
    assert len(rest) == 15 - moment + 1
    assert len(pd.read_csv(tmp_path / "consistency" / "consistency.csv")) == 12
    capsys.readouterr()
