"""The experiment on sentences: its rows, and the process itself beside them."""

import gzip
import sys

import pandas as pd
import pytest

from pyro_idvae.datasets import synthetic_text
from pyro_idvae.experiments import contest, text
from pyro_idvae.experiments.__main__ import main


def case(**changes):
    tokens = synthetic_text(50, vocabulary_size=30)[0].tokens
    return text.Case(tokens, tokens, 30, 2, text.WANTED)._replace(**changes)


def test_models_are_of_one_process_and_of_three_floors():
    found = text.remedies(case())
    floors = [
        remedy.make(0).likelihood.lipschitz_bounds()[0]
        for name, remedy in found.items()
        if name.startswith("IDSVAE") and "annealed" in name
    ]
    assert len(floors) == len(text.WANTED)
    assert floors == sorted(floors)
    assert not found["SVAE"].make(0).likelihood.identifiable
    assert found["SVAE, skip, word dropout"].make(0).likelihood.direct is not None


def test_sentences_of_a_file_end_with_a_mark(tmp_path):
    for name in text.FILES:
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.write("0\tgood food\n1\tbad food , bad wine\n")
    found = text.yelp(tmp_path)
    assert found.vocabulary_size == len({"good", "food", "bad", ",", "wine"}) + 2
    assert found.train.tolist() == found.test.tolist()
    models = text.remedies(found)
    assert [name for name in models if name.startswith("IDSVAE")] == [
        "IDSVAE, 0.3 nats",
        "IDSVAE, 0.3 nats, word dropout",
        "IDSVAE, 0.3 nats, annealed",
    ]
    for name in ("SVAE", "IDSVAE, 0.3 nats"):
        vae = models[name].make(0)
        assert vae.likelihood.end_token == 0
        assert vae.model(found.train).shape == (2, found.latent_dim)


def test_words_come_back_in_half_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(text.time, "process_time", lambda: now[0])
    vae = case().ordinary(0)
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
    monkeypatch.setattr(text, "SIMULATED", (30, 2))
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
