import math
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from pyro_idvae.distributions import wanted_rate
from pyro_idvae.experiments import floors
from pyro_idvae.experiments.__main__ import main
from pyro_idvae.experiments.floor_cases import CASES, ORDINARY, matched_floor, models

DIGITS = CASES[0]


def test_decoders_of_a_data_set_are_of_one_size():
    train = DIGITS.load(Path()).train
    made = {name: make(0) for name, make in models(DIGITS, train).items()}
    sizes = [sum(p.numel() for p in vae.likelihood.parameters()) for vae in made.values()]
    assert max(sizes) < 1.05 * min(sizes)
    assert {name for name in made if "noise units" in name} == {
        "floor in noise units, 0.1 nats",
        "floor in noise units, 0.3 nats",
    }


@pytest.mark.parametrize("family", ["bernoulli", "multinomial"])
def test_matched_floors_are_equal_where_all_features_are(family):
    n = 400
    if family == "bernoulli":
        x = torch.cat([torch.zeros(n, 6), torch.ones(n, 6)])
        information = 0.25
    else:
        x = torch.full((n, 8), 5.0)
        information = 40 / 8
    case = replace(DIGITS, family=family, total_count=None, latent_dim=2)
    found = matched_floor(case, x, 0.2)
    wanted = wanted_rate(family, x, nats=0.2, latent_dim=2)
    assert found == pytest.approx(wanted / math.sqrt(information), rel=1e-3)


def test_ink_is_drawn_anew_in_each_epoch():
    case = replace(DIGITS, ink=True, batch_size=50)
    train, held = case.batches(torch.full((100, 4), 0.5))
    first, second = (torch.cat([x for (x,) in train]) for _ in range(2))
    assert first.shape == (90, 4)
    assert not torch.equal(first, second)
    one, other = (torch.cat([x for (x,) in held]) for _ in range(2))
    assert torch.equal(one, other)


def test_rows_are_made_and_gone_on_from(monkeypatch, tmp_path, capsys):
    small = replace(DIGITS, latent_dim=3, nats=(0.3,), encoder=(16,), width=8, layers=(8,))
    monkeypatch.setattr(floors, "CASES", (small,))
    argv = ["x", "floors", "--out", str(tmp_path), "--data", str(tmp_path), "--only", "digits"]
    monkeypatch.setattr(sys, "argv", [*argv, "--quick", "--seeds", "2"])
    calls, judge = [], floors.evaluate

    def evaluate(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return judge(*arguments, **options)

    monkeypatch.setattr(floors, "evaluate", evaluate)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    out = tmp_path / "floors"
    rows = pd.read_csv(out / "floors.csv")
    assert len(rows) == 3
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*argv, "--quick", "--seeds", "2", "--resume"])
    main()
    again = pd.read_csv(out / "floors.csv")
    assert len(calls) == 7
    assert len(again) == 6
    pd.testing.assert_frame_equal(again[:3], rows)
    assert set(again["model"]) > {ORDINARY}
    assert again["capped"].notna().sum() == 2
    assert (again["collapsed"] <= 3).all()
    printed = capsys.readouterr().out
    assert "standard error of the difference to the best ordinary decoder" in printed
    assert (out / "floors.png").stat().st_size > 10_000


def test_data_that_are_not_there_are_said_in_one_line(monkeypatch, tmp_path, capsys):
    argv = ["x", "floors", "--out", str(tmp_path / "out"), "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*argv, "--only", "yelp"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "yelp_small.train.txt.gz" in lines[0]
