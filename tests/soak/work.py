"""Long and repeated work, done in a process of its own that prints the memory it held.

``python -m tests.soak.work NAME`` prints a list of resident sizes in MB, taken as the work goes on.
"""

import gc
import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule

import pyro_idvae as idvae

PAGE = 4096
STEPS = 100_000
CALLS = 100

mpl.use("Agg")


def resident():
    """Return the resident size of this process in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.8))


class Mean(PyroModule):
    """One number and nothing latent: the least that a fit on minibatches can be of."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(()))
        self.calls, self.sizes = 0, []

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mean, 1.0), obs=x)
        self.calls += 1
        if self.calls % (STEPS // 5) == 0:
            self.sizes.append(resident())


def nothing(x):
    """Return nothing: the guide of a model without latents."""


def steps():
    """Fit with as many steps in an epoch as rows: each epoch costs some runs more."""
    mean, epochs = Mean(), STEPS // 1000
    with pyro.validation_enabled(False):
        result = idvae.fit(
            mean, nothing, torch.randn(1000), batch_size=1, num_epochs=epochs, progress=False
        )
    assert len(result.losses) == epochs
    return mean.sizes


def repeated(function, calls):
    """Return the sizes after each fifth of so many calls."""
    sizes = []
    for call in range(calls):
        function()
        if (call + 1) % (calls // 5) == 0:
            sizes.append(resident())
    return sizes


def side_by_side():
    x = torch.randn(100)

    def draw():
        idvae.mcmc(
            model,
            x,
            kernel="vectorized",
            num_samples=500,
            warmup_steps=50,
            num_chains=2,
            num_prior_samples=10,
            progress=False,
        )

    return repeated(draw, 5)


def nuts():
    x = torch.randn(2)

    def draw():
        idvae.mcmc(
            model,
            x,
            kernel="nuts",
            num_samples=500,
            warmup_steps=50,
            num_chains=2,
            num_prior_samples=10,
            progress=False,
        )

    return repeated(draw, 5)


def guide_draws():
    x = torch.randn(4)
    return repeated(lambda: idvae.from_guide(model, guide, x, num_samples=STEPS), 5)


def weights():
    x = torch.randn(3)
    kept = [resident()]
    for number in (10 * STEPS, 30 * STEPS):
        idvae.importance_log_likelihood(model, guide, x, num_samples=number)
        kept.append(resident())
    return kept


def reports():
    """Everything that registers hooks, caches, parameters or figures, again and again."""
    x = torch.randn(10, 3)
    vae = idvae.IDVAE(3, 1, "normal", hidden_dims=[4], encoder_hidden_dims=[4])

    def once():
        drawn = idvae.from_guide(vae.model, vae.guide, x, num_samples=20)
        idvae.certify(vae.model, x)
        idvae.kl_to_prior(vae.model, vae.guide, x)
        idvae.collapse_report(drawn)
        axes = idvae.plot_prior_posterior(drawn)
        for ax in np.ravel(axes):
            ax.figure.clear()
        mpl.pyplot.close("all")

    return repeated(once, CALLS)


def samplings():
    x = torch.randn(3)
    auto = AutoNormal(model)

    def once():
        pyro.clear_param_store()
        idvae.fit(model, auto, x, num_epochs=2, progress=False)
        idvae.mcmc(
            model,
            x,
            kernel="vectorized",
            num_samples=10,
            warmup_steps=5,
            num_chains=2,
            num_prior_samples=2,
            num_limit_draws=0,
            progress=False,
        )

    return repeated(once, CALLS)


WORK = {
    function.__name__: function
    for function in (steps, side_by_side, nuts, guide_draws, weights, reports, samplings)
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    print(json.dumps(WORK[sys.argv[1]]()))
