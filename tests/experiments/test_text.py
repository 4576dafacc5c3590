"""The experiment on sentences: its rows, and the process itself beside them."""

import sys

import pandas as pd
import pytest

from pyro_idvae.datasets import synthetic_text
from pyro_idvae.experiments import contest, text
from pyro_idvae.experiments.__main__ import main


def test_models_are_of_one_process_and_of_three_floors():
    tokens = synthetic_text(50, vocabulary_size=text.VOCABULARY)[0].tokens
    found = text.remedies(tokens)
    floors = [
        remedy.make(0).likelihood.lipschitz_bounds()[0]
        for name, remedy in found.items()
        if name.startswith("IDSVAE") and "word dropout" in name
    ]
    assert len(floors) == len(text.WANTED)
    assert floors == sorted(floors)
    assert not found["SVAE"].make(0).likelihood.identifiable
    assert found["SVAE, skip"].make(0).likelihood.direct is not None


def test_words_come_back_in_half_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(text.time, "process_time", lambda: now[0])
    vae = text.make_ordinary(False, 0)
    lower = text.TimedWordDropout(vae, 100.0)
    rates = []
    for now[0] in (5.0, 12.0, 30.0, 50.0, 99.0):
        lower.on_epoch(None)
        rates.append(vae.likelihood.dropout)
    assert rates[:2] == [lower.first, lower.first]
    assert lower.last < rates[2] < lower.first
    assert rates[3:] == [lower.last, lower.last]


@pytest.mark.slow
def test_all_goes_through(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(text, "NUM_TRAIN", 100)
    monkeypatch.setattr(text, "NUM_TEST", 20)
    monkeypatch.setattr(text, "VOCABULARY", 30)
    monkeypatch.setattr(contest, "QUICK_SECONDS", 1e-3)
    monkeypatch.setattr(contest, "QUICK_ROWS", 5)
    monkeypatch.setattr(sys, "argv", ["x", "text", "--out", str(tmp_path), "--quick"])
    main()
    frame = pd.read_csv(tmp_path / "text" / "text.csv")
    assert next(iter(frame["model"])) == "SVAE"
    assert len(frame) == 11
    said = capsys.readouterr().out
    assert "the process itself: log p(x)" in said
    assert "nats a sentence" in said
    assert (tmp_path / "text" / "text.png").stat().st_size > 1000
