import csv
import sys

import pytest
import torch

from pyro_idvae.experiments import mixture
from pyro_idvae.experiments.__main__ import main
from pyro_idvae.experiments.ledger import EarlierRunError

COLUMNS = [
    "regime",
    "method",
    "true_theta",
    "mean",
    "sd",
    "kl",
    "kl_lower",
    "kl_upper",
    "verdict",
    "assignment_information",
    "assignment_information_sd",
    "assignment_kl",
    "rhat",
    "largest_rhat",
    "ess",
    "divergences",
    "seconds",
    "elbo",
    "elbo_se",
    "elbo_gain",
    "elbo_of_worst_start",
]


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_components_apart_are_found_by_all_methods(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(mixture, "STARTS", (1.0,))
    options = {
        "num_data": 300,
        "regimes": ["separated"],
        "num_samples": 100,
        "warmup_steps": 100,
        "num_chains": 2,
        "num_steps": 150,
        "parallel": False,
    }
    with monkeypatch.context() as patch:
        patch.setattr(mixture, "_fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mixture.run(tmp_path, **options)
    assert len((tmp_path / "mixture.csv").read_text().splitlines()) == 2
    with pytest.raises(EarlierRunError, match="go on with --resume"):
        mixture.run(tmp_path, **options)
    with pytest.raises(EarlierRunError, match="steps was 150, now 160"):
        mixture.run(tmp_path, **{**options, "num_steps": 160}, resume=True)
    with monkeypatch.context() as patch:
        # What is there is not made again.
        patch.setattr(mixture, "_sample", interrupted)
        found = mixture.run(tmp_path, **options, resume=True)
    kept = {f"mixture_separated_{name}.npy" for name in ("NUTS", "mean_field", "full_rank")}
    files = {"mixture.csv", "mixture.png", "options.json"}
    assert {p.name for p in tmp_path.iterdir()} == files | kept
    with (tmp_path / "mixture.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert [row["method"] for row in rows] == ["NUTS", "mean field", "full rank"]
    for row in rows:
        assert row["verdict"] == "informative"
        assert float(row["kl_lower"]) < float(row["kl"]) < float(row["kl_upper"])
        # θ given the assignments is Beta(5 + 75, 5 + 225) about, of mean .26 and sd .025.
        assert abs(float(row["mean"]) - 0.25) < 0.1
        assert 0.02 < float(row["sd"]) < 0.035
        # The assignments are known: their information is the entropy of (.25, .75).
        assert abs(float(row["assignment_information"]) - 0.56) < 0.06
    assert float(rows[0]["rhat"]) < 1.1
    assert len(found) == 3
    text = capsys.readouterr().out
    assert "separated, full rank: θ = " in text
    assert "one-sided at 95 %" in text


@pytest.mark.slow
def test_one_cluster_leaves_the_weight_near_its_prior(monkeypatch, tmp_path):
    monkeypatch.setattr(mixture, "STARTS", (1.0,))
    found = mixture.run(
        tmp_path,
        num_data=300,
        regimes=["one cluster"],
        num_samples=100,
        warmup_steps=100,
        num_chains=2,
        num_steps=20,
        parallel=False,
    ).set_index("method")
    exact = found.loc["NUTS"]
    # Of few rows the posterior is near the prior, of standard deviation .15, but not quite it.
    assert exact["kl_lower"] < 0.05
    assert exact["kl"] < 0.3
    assert abs(exact["mean"] - 0.5) < 0.15
    assert exact["sd"] > 0.1
    assert exact["assignment_information"] < 0.1


def test_chains_in_the_other_labelling_are_exchanged_whole():
    mu = torch.tensor([[[-1.0, 2.0], [-1.5, 2.5]], [[3.0, -1.0], [-0.1, 0.0]]])
    theta = torch.tensor([[0.2, 0.3], [0.9, 0.8]])
    sigma = torch.tensor([1.0, 2.0]).expand(2, 2, 2)
    found = mixture.relabelled({"theta": theta, "mu": mu, "sigma": sigma})
    torch.testing.assert_close(found["theta"], torch.tensor([[0.2, 0.3], [0.1, 0.2]]))
    assert found["mu"].tolist()[0] == mu.tolist()[0]
    assert found["mu"].tolist()[1] == [[-1.0, 3.0], [0.0, mu[1, 1, 0]]]
    assert found["sigma"].tolist() == [[[1, 2], [1, 2]], [[2, 1], [2, 1]]]
    x = torch.randn(5)
    model = mixture.GaussianMixture()
    for before, after in zip((theta, mu, sigma), found.values(), strict=True):
        assert before.shape == after.shape
    torch.testing.assert_close(
        model.log_likelihood(x, theta[1, 0], mu[1, 0], sigma[1, 0]),
        model.log_likelihood(x, *(found[name][1, 0] for name in ("theta", "mu", "sigma"))),
    )


@pytest.mark.parametrize("name", ["mixture", "pca"])
def test_the_command_line_passes_its_options_on(name, monkeypatch, tmp_path):
    called = {}
    monkeypatch.setattr(
        f"pyro_idvae.experiments.{name}.run", lambda out, **options: called.update(options, out=out)
    )
    options = ["--data=30", "--chains=2", "--samples=25", "--warmup=8", "--steps=7", "--seed=6"]
    monkeypatch.setattr(sys, "argv", ["x", name, "--out", str(tmp_path), *options, "--sequential"])
    main()
    assert called == {
        "out": tmp_path / name,
        "num_data": 30,
        "num_chains": 2,
        "num_samples": 25,
        "warmup_steps": 8,
        "num_steps": 7,
        "seed": 6,
        "parallel": False,
        "resume": False,
    }
