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
        if name.startswith("IDSVAE")
    ]
    assert len(floors) == len(text.WANTED)
    assert floors == sorted(floors)
    assert not found["SVAE"].make(0).likelihood.identifiable


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
    assert len(frame) == 7
    said = capsys.readouterr().out
    assert "the process itself: log p(x)" in said
    assert "nats a sentence" in said
    assert (tmp_path / "text" / "text.png").stat().st_size > 1000
