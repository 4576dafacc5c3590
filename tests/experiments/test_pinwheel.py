"""The experiment on pinwheels: its files, and going on where it was interrupted."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_idvae.experiments import pinwheel
from pyro_idvae.experiments.__main__ import main
from pyro_idvae.experiments.pinwheel_models import STACKED, makers
from pyro_idvae.testing import InjectionLaws


class TestStacked(InjectionLaws):
    input_dim = 2

    def make(self):
        vae = makers(torch.randn(50, 2))[STACKED](0)
        return vae.likelihood.injection


def run(monkeypatch, out, *options):
    monkeypatch.setattr(sys, "argv", ["x", "pinwheel", "--out", str(out), "--quick", *options])
    main()


@pytest.mark.slow
def test_rows_and_weights_stay_and_are_gone_on_from(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pinwheel, "NUM_TRAIN", 200)
    monkeypatch.setattr(pinwheel, "NUM_TEST", 100)
    monkeypatch.setattr(pinwheel, "QUICK_JUDGED", 3)
    judged = pinwheel.assignments
    calls = []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judged(*args, **options)

    monkeypatch.setattr(pinwheel, "assignments", interrupted)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, tmp_path)
    assert ended.value.code == 130
    out = tmp_path / "pinwheel"
    assert list(pd.read_csv(out / "pinwheel.csv")["model"]) == [pinwheel.IDENTIFIABLE]
    fits = []
    own = pinwheel.fit
    monkeypatch.setattr(pinwheel, "fit", lambda *a, **k: fits.append(1) or own(*a, **k))
    run(monkeypatch, tmp_path, "--resume")
    frame = pd.read_csv(out / "pinwheel.csv")
    assert len(fits) == len(frame) - 2  # the second model was trained before it was interrupted
    assert list(frame["model"]) == list(makers(torch.zeros(9, 2)))
    assert frame["decoder_size"].between(500, 550).all()
    assert (frame["information_exact"] <= np.log(5) + 1e-6).all()
    assert "nats a point" in capsys.readouterr().out
    assert (out / "pinwheel.png").stat().st_size > 1000


def test_accuracy_is_of_the_best_order():
    arms = np.arange(50) % 5
    assert pinwheel.accuracy((arms + 2) % 5, arms) == 1.0
    assert pinwheel.accuracy(np.zeros(50, int), arms) == 0.2
