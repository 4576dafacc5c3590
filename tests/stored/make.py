"""Write the stored draws and what reports say of them: ``python tests/stored/make.py``.

Run with ArviZ 0.23; the tests read the same files with every version. ``svi.nc``, ``nuts.nc`` and
``older.nc`` were written by version 0.1 and earlier; ``make.py named`` leaves them as they are.
"""

import json
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch

from pyro_idvae import __version__, collapse_report, compare, from_guide, mcmc
from pyro_idvae.arviz_io import save_netcdf

HERE = Path(__file__).parent
X = torch.tensor([[0.5, 0.1], [-1.0, 0.4], [2.0, -0.3]])


def model(x):
    """One coordinate of z is seen, the other is not."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        mean = torch.stack([z[:, 0], 0 * z[:, 0]], -1)
        pyro.sample("x", dist.Normal(mean, 0.7).to_event(1), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        loc = torch.stack([0.6 * x[:, 0], 0 * x[:, 0]], -1)
        scale = torch.tensor([0.4, 1.0])
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def named():
    """Write draws of rows sampled apart, with names of dimensions and labels along them."""
    draws = mcmc(
        model,
        X,
        kernel="vectorized",
        num_samples=30,
        num_chains=2,
        num_prior_samples=30,
        coords={"cell": ["first", "second", "third"], "factor": ["seen", "unseen"]},
        dims={"z": ["factor"], "x": ["gene"]},
        seed=0,
        progress=False,
    )
    save_netcdf(draws, HERE / "named.nc")


def main():
    named()
    if sys.argv[1:] == ["named"]:
        return
    pyro.set_rng_seed(0)
    coords = {"data": ["first", "second", "third"]}
    svi = from_guide(model, guide, X, num_samples=200, num_prior_samples=100, coords=coords)
    nuts = mcmc(
        model,
        X,
        kernel="vectorized",
        num_samples=100,
        num_prior_samples=100,
        coords=coords,
        seed=0,
        progress=False,
    )
    said = {"version": __version__, "compare": compare(svi, nuts).table.values.tolist()}
    for name, draws in (("svi", svi), ("nuts", nuts)):
        save_netcdf(draws, HERE / f"{name}.nc")
        report = collapse_report(draws)
        said[name] = {
            "verdict": report.verdict,
            "verdicts": report.table["verdict"].tolist(),
            "labels": report.table.index.tolist(),
            "figures": report.table.select_dtypes("number").astype(float).values.tolist(),
            "points": report.per_point["kl"].values.tolist(),
        }
    (HERE / "said.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
