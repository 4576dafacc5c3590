import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from pyro_idvae.experiments import contest, remedies
from pyro_idvae.experiments.__main__ import main
from pyro_idvae.experiments.images import make_vae
from pyro_idvae.infer.objectives import OBJECTIVES


def size(vae):
    return sum(p.numel() for p in vae.likelihood.parameters())


def test_every_remedy_is_there_and_decoders_are_of_one_size():
    found = remedies.remedies()
    kinds = {type(remedy.objective()) for remedy in found.values()}
    assert kinds >= set(OBJECTIVES.values())
    for remedy in found.values():
        assert size(remedy.make(0)) == pytest.approx(size(make_vae(0)), rel=0.02)


def test_a_budget_is_of_processor_time():
    progress = SimpleNamespace(stop=lambda: stopped.append(True))
    stopped, budget = [], contest.Budget(0.05)
    time.sleep(0.1)
    budget.on_epoch(progress)
    assert not stopped
    end = time.process_time() + 0.06
    while time.process_time() < end:
        pass
    budget.on_epoch(progress)
    assert stopped


ROW = dict.fromkeys((*contest.COLUMNS, "evidence_mcse", "information_cap"), 1.0 + 1 / 3)


def judged(seen, interrupted_at):
    def evaluate(model, guide, images, **options):
        seen.append(guide)
        if len(seen) == interrupted_at:
            raise KeyboardInterrupt
        measure = SimpleNamespace(mean=1.0)
        names = ("evidence", "kl", "mutual_information", "least_nats")
        return SimpleNamespace(row=ROW, **dict.fromkeys(names, measure))

    return evaluate


def test_rows_stay_and_are_gone_on_from(monkeypatch, tmp_path, capsys):
    some = ("none", "delta 0.1", "batch norm")
    chosen = {name: remedies.remedies()[name] for name in some}
    monkeypatch.setattr(remedies, "remedies", lambda: chosen)
    monkeypatch.setattr(contest, "QUICK_SECONDS", 1e-3)
    argv = ["x", "remedies", "--out", str(tmp_path), "--quick"]
    seen = []
    monkeypatch.setattr(contest, "evaluate", judged(seen, 3))
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    out = tmp_path / "remedies"
    assert list(pd.read_csv(out / "remedies.csv")["model"]) == list(some[:2])
    again = []
    monkeypatch.setattr(contest, "evaluate", judged(again, None))
    monkeypatch.setattr(sys, "argv", [*argv, "--resume"])
    main()
    assert len(again) == 1
    frame = pd.read_csv(out / "remedies.csv")
    assert list(frame["model"]) == list(some)
    assert list(pd.read_csv(out / "training.csv")["epochs"]) == [1, 1, 1]
    # Judged by the guide that was trained.
    assert [type(guide).__name__ for guide in seen] == [
        "VAEGuide",
        "ReshapedGuide",
        "ReshapedGuide",
    ]
    said = capsys.readouterr().out
    assert "delta 0.1" in said
    assert "1.33" in said
    assert (out / "remedies.png").stat().st_size > 1000
