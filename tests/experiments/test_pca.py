import csv

import numpy as np
import pytest
import torch

from pyro_idvae.datasets import pca_data
from pyro_idvae.experiments import pca, pca_rows
from pyro_idvae.experiments.posteriors import norm_divergence
from pyro_idvae.models import ProbabilisticPCA

COLUMNS = [
    "setting",
    "latent",
    "method",
    "quantity",
    "estimate",
    "verdict",
    "elbo",
    "lower",
    "upper",
    "seconds",
    "rhat",
    "ess",
    "elbo_se",
    "elbo_gain",
    "divergences",
    "points_informative",
    "points_collapsed",
]


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_spare_latent_collapses_and_the_signal_does_not(monkeypatch, tmp_path, capsys):
    options = {
        "num_data": 40,
        "num_samples": 120,
        "warmup_steps": 40,
        "num_chains": 2,
        "num_steps": 100,
        "max_tree_depth": 4,
        "parallel": False,
    }
    with monkeypatch.context() as patch:
        patch.setattr(pca, "rows_sampled", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pca.run(tmp_path, **options)
    with monkeypatch.context() as patch:
        # What is there is not made again.
        patch.setattr(pca_rows, "fit_guide", interrupted)
        found = pca.run(tmp_path, **options, resume=True)
    assert {p.name for p in tmp_path.iterdir()} == {"pca.csv", "pca.png", "options.json"}
    with (tmp_path / "pca.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    for row in rows:
        if row["latent"] == "wwᵀ":
            assert float(row["rhat"]) > 0.9
            continue
        assert np.isfinite(float(row["estimate"]))
        if row["method"] != "closed form":
            assert float(row["lower"]) <= float(row["upper"])
    table = found.set_index(["setting", "latent", "method"]).sort_index()
    signal = table.loc[("2 latents, true loadings", "z[0]")]
    spare = table.loc[("2 latents, true loadings", "z[1]")]
    assert (signal.loc[["closed form", "exact (HMC)"], "verdict"] == "informative").all()
    # Guides have fewer draws here than a finding asks for.
    assert signal["verdict"].isin(["informative", "undecided"]).all()
    assert spare.loc["closed form", "estimate"] == 0
    assert spare.loc["exact (HMC)", "verdict"] == "collapsed"
    assert abs(signal.loc["exact (HMC)", "estimate"] - signal.loc["closed form", "estimate"]) < 0.15
    for _, own in found.groupby("setting"):
        # No guide's bound exceeds the evidence.
        bounds = own.dropna(subset=["elbo"]).set_index("method")
        for method in bounds.index.drop("closed form", errors="ignore"):
            guide = bounds.loc[method]
            assert guide["elbo"] < bounds.loc["closed form", "elbo"] + 4 * guide["elbo_se"]
    assert "loadings sampled, NUTS, |z|: KL" in capsys.readouterr().out


def test_maximum_likelihood_loadings_are_a_maximum():
    x = pca_data(num_data=200).x
    model, w = ProbabilisticPCA(5, 2), pca.maximum_likelihood(x, 2, 1.0)
    best = model.marginal(w).log_prob(x).sum()
    for _ in range(20):
        other = w + 0.05 * torch.randn_like(w)
        assert model.marginal(other).log_prob(x).sum() < best
    # Its information is ½ log of the eigenvalue over σ², for each latent.
    values = torch.linalg.eigvalsh(x.T @ x / 200).flip(0)[:2]
    wanted = 0.5 * values.log().sum()
    torch.testing.assert_close(model.kl_to_prior(x, w).mean(), wanted, rtol=1e-4, atol=1e-4)


def test_loadings_without_signal_are_zero():
    assert (pca.maximum_likelihood(0.1 * torch.randn(50, 4), 2, 1.0) == 0).all()


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_norm_tells_the_prior_from_a_shift_but_not_a_rotation(latent_dim):
    generator = np.random.default_rng(0)
    z = generator.normal(size=(2, 1000, 20, latent_dim))
    limits = {"epsilon": 0.05, "confidence": 0.95}
    prior = norm_divergence(z, **limits)
    assert prior["verdict"] == "collapsed"
    assert prior["rhat"] < 1.02
    narrow = norm_divergence(0.3 * z + 1.0, **limits)
    assert narrow["verdict"] == "informative"
    assert narrow["points_informative"] == 1
    assert narrow["points_collapsed"] == 0
    turned = norm_divergence(-(0.3 * z + 1.0), **limits)
    assert turned["estimate"] == narrow["estimate"]
