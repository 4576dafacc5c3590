"""Autopsies of constructed cases whose right verdict is known, three seeds each.

A verdict is *right*, *honest* ("unknown" or "undecided", or another that is also true of the case)
or *wrong*. None may be wrong, and an autopsy of 80 rows should take 15 seconds at most.
Run: python benchmarks/verdicts.py [--seeds N] [--only WORD]
"""

import argparse
import math
import time
import warnings
from collections import Counter
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule

from pyro_idvae import IDVAE, VAE, AutoInjectiveLaplace, Encoder, autopsy, fit
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.models import mlp

ROWS = 80
HONEST = {"unknown", "undecided"}


class Latent(PyroModule):
    """x ~ N(mean(z), scale) with z ~ N(0, I)."""

    def __init__(self, mean, dim, scale):
        super().__init__()
        self.mean, self.dim, self.scale = mean, dim, scale

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.mean(z), self.scale).to_event(1), obs=x)

    def simulate(self, rows=ROWS):
        with torch.no_grad():
            z = torch.randn(rows, self.dim)
            return dist.Normal(self.mean(z), self.scale).sample()


class Amortised(PyroModule):
    """A Normal guide; ``blind`` to its input, or not."""

    def __init__(self, data_dim, dim, hidden=(32,), blind=False, **options):
        super().__init__()
        self.encoder, self.blind = Encoder(data_dim, dim, list(hidden), **options), blind

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.encoder(torch.zeros_like(x) if self.blind else x))


class AffineFlow(PyroModule):
    """A diagonal Normal under an affine autoregressive flow that all rows share."""

    def __init__(self, data_dim, dim):
        super().__init__()
        self.encoder = Encoder(data_dim, dim, [32])
        self.flow = transforms.affine_autoregressive(dim, hidden_dims=[8])

    def forward(self, x):
        base = self.encoder(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


class Conditional(PyroModule):
    """q(z_0 | x) q(z_1 | z_0, x), as two sites of the model."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Encoder(1, 1, [32]), Encoder(2, 1, [32])

    def forward(self, x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", self.first(x))
            pyro.sample("b", self.second(torch.cat([x, a], -1)))


def two_sites(x):
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        b = pyro.sample("b", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(a + b, 0.2).to_event(1), obs=x)


class Mixture(PyroModule):
    """Two Normals at ±m(x), as wide as the halves of p(z | x), by quadrature."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(shift))

    def forward(self, x):
        grid = torch.linspace(0.0, 4.0, 801)
        log_p = -0.5 * grid**2 - 0.5 * ((x - grid**2) / 0.3) ** 2
        p = log_p.softmax(-1)
        mean = (p * grid).sum(-1)
        sd = (p * (grid - mean.unsqueeze(-1)) ** 2).sum(-1).sqrt()
        loc = torch.stack([mean, -mean], -1) + self.shift
        with pyro.plate("data", len(x)):
            halves = dist.Categorical(torch.full_like(loc, 0.5))
            components = dist.Normal(loc, sd.unsqueeze(-1).expand(loc.shape))
            pyro.sample("z", dist.MixtureSameFamily(halves, components))


class FreeMixture(PyroModule):
    """Two Normals for each row, by an encoder."""

    def __init__(self):
        super().__init__()
        self.network = mlp([1, 32, 6])

    def forward(self, x):
        weights, loc, scale = self.network(x).split(2, -1)
        with pyro.plate("data", len(x)):
            components = dist.Normal(loc, torch.nn.functional.softplus(scale) + 0.01)
            pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=weights), components))


def squared(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal((z**2).unsqueeze(-1), 0.3).to_event(1), obs=x)


def scalar_normal(x, network):
    loc, scale = network(x).split(1, -1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc[:, 0], torch.nn.functional.softplus(scale[:, 0]) + 0.01))


class ScalarNormal(PyroModule):
    def __init__(self):
        super().__init__()
        self.network = mlp([1, 32, 2])

    def forward(self, x):
        scalar_normal(x, self.network)


def train(model, guide, x, epochs=400, learning_rate=0.01, *, elbo=None):
    fit(
        model,
        guide,
        x,
        optimizer=partial(torch.optim.Adam, lr=learning_rate),
        num_epochs=epochs,
        progress=False,
        **({} if elbo is None else {"elbo": elbo}),
    )
    return guide


def sums(scale, dim=2):
    return Latent(lambda z: z.sum(-1, keepdim=True), dim, scale)


def circle(z):
    return torch.cat([3 * torch.sin(1.1 * z), 3 * torch.cos(1.1 * z)], -1)


LOADINGS = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.5, 0.0], [0.0, 0.5]])


def pca():
    return Latent(lambda z: z @ LOADINGS.mT, 2, 0.5)


def case_mixture_near_exact():
    x = torch.randn(ROWS, 1) ** 2 + 0.3 * torch.randn(ROWS, 1)
    return squared, Mixture(), x, {"z": "healthy"}


def case_mixture_shifted():
    x = torch.randn(ROWS, 1) ** 2 + 0.3 * torch.randn(ROWS, 1)
    return squared, Mixture(0.5), x, {"z": "optimisation"}


def case_mixture_untrained():
    x = torch.randn(ROWS, 1) ** 2 + 0.3 * torch.randn(ROWS, 1)
    return squared, FreeMixture(), x, {"z": {"optimisation"}}


def case_normal_on_two_modes():
    x = torch.randn(ROWS, 1) ** 2 + 0.3 * torch.randn(ROWS, 1)
    return squared, train(squared, ScalarNormal(), x), x, {"z": "family"}


def case_flow_after_5_epochs():
    model = sums(0.1)
    x = model.simulate()
    return model, train(model, AffineFlow(1, 2), x, 5), x, {"z": "optimisation"}


def case_flow_trained():
    model = sums(0.1)
    x = model.simulate()
    guide = train(model, AffineFlow(1, 2), x, 1500)
    return model, guide, x, {"z": "healthy"}


def case_circle():
    model = Latent(circle, 1, 0.2)
    x = model.simulate()
    guide = train(model, Amortised(2, 1, [64]), x, 2000)
    train(model, guide, x, 1500, 0.001, elbo=TraceMeanField_ELBO(num_particles=4))
    return model, guide, x, {"z": "healthy"}


def case_constant_decoder():
    decoder = mlp([2, 8, 5])
    for p in decoder[-1].parameters():
        p.data.zero_()
    vae = VAE(NeuralLikelihood(make_family("normal"), decoder), Encoder(5, 2, [16]))
    return vae.model, vae.guide, torch.randn(ROWS, 5), {"latent": "model"}


def case_dead_axis():
    w = LOADINGS.clone()
    w[:, 1] = 0
    model = Latent(lambda z: z @ w.mT, 2, 0.5)
    x = model.simulate()
    return model, train(model, Amortised(5, 2), x), x, {"z[0]": "healthy", "z[1]": "model"}


def case_dead_direction():
    model = Latent(lambda z: 1.5 * z.sum(-1, keepdim=True) / math.sqrt(2), 2, 1.0)
    x = model.simulate()
    guide = train(model, Amortised(1, 2, covariance="full"), x, 800)
    return model, guide, x, {"z": "healthy", "direction": True}


def case_mean_field_on_a_correlated_posterior():
    model = Latent(lambda z: z @ torch.ones(2, 5), 2, 0.3)
    x = model.simulate()
    return model, train(model, Amortised(5, 2), x, 600), x, {"z": "family"}


def case_full_covariance_on_it():
    model = Latent(lambda z: z @ torch.ones(2, 5), 2, 0.3)
    x = model.simulate()
    guide = train(model, Amortised(5, 2, covariance="full"), x, 600)
    return model, guide, x, {"z": "healthy"}


def case_untrained_encoder():
    model = pca()
    x = model.simulate()
    return model, Amortised(5, 2), x, {"z": "optimisation"}


def case_blind_encoder():
    model = pca()
    return model, Amortised(5, 2, blind=True), model.simulate(), {"z": "amortisation"}


def case_too_small_encoder():
    """An encoder that sees one number of the data, and two latents to tell of."""

    class Narrow(PyroModule):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder(1, 2, [8])

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", self.encoder(x[:, :1]))

    model = pca()
    x = model.simulate()
    guide = train(model, Narrow(), x)
    return model, guide, x, {"z[0]": "healthy", "z[1]": "amortisation"}


def case_prior_as_guide():
    class Prior(PyroModule):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    model = pca()
    return model, Prior(), model.simulate(), {"z": "optimisation"}


def overfitted(rows=12):
    """A wide encoder trained long on few rows of many noisy columns."""
    loadings = torch.randn(2, 40) / 3
    model = Latent(lambda z: z @ loadings, 2, 1.0)
    train_rows, held_out = model.simulate(rows), model.simulate()
    guide = train(model, Amortised(40, 2, [128, 128]), train_rows, 1500, 0.005)
    return model, guide, train_rows, held_out


def case_held_out_with_reference():
    model, guide, reference, x = overfitted()
    return model, guide, x, {"z": "generalisation", "reference": reference}


def case_training_rows():
    model, guide, x, _ = overfitted(ROWS)
    return model, guide, x, {"z": "healthy"}


def case_sum_of_twenty():
    model = sums(0.1, 20)
    x = model.simulate()
    return model, Amortised(1, 20), x, {"z": "joint"}


def case_weak_injective():
    vae = IDVAE(5, 2, "normal", scale=1.0, rate_window=(0.001, 0.01), hidden_dims=[16])
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(ROWS, 2)).sample()
    return vae.model, vae.guide, x, {"latent": "model", "says": "being injective"}


def case_laplace_of_an_injective_likelihood():
    vae = IDVAE(5, 2, "normal", scale=0.5, hidden_dims=[16], encoder_hidden_dims=[16])
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(ROWS, 2)).sample()
    return vae.model, AutoInjectiveLaplace(vae.model), x, {"latent": "healthy"}


def case_trained_idvae():
    vae = IDVAE(5, 2, "normal", scale=0.5, hidden_dims=[16], encoder_hidden_dims=[64])
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(ROWS, 2)).sample()
    train(vae.model, vae.guide, x, 400, elbo=TraceMeanField_ELBO(num_particles=4))
    return vae.model, vae.guide, x, {"latent": "healthy"}


def case_autonormal_of_a_shared_latent():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + mean, 0.5), obs=x)

    x = 1 + torch.randn(8)
    guide = train(model, AutoNormal(model), x, 400)
    return model, guide, x, {"z": "healthy", "mean": {"family", "optimisation", "healthy"}}


def case_joint_autoguide():
    model = pca()
    x = model.simulate(10)
    return model, train(model, AutoMultivariateNormal(model), x, 1500), x, {"z": "healthy"}


def case_conditional_guide():
    x = 1.4 * torch.randn(ROWS, 1)
    return two_sites, train(two_sites, Conditional(), x, 1500), x, {"a": "healthy", "b": "healthy"}


def case_conditional_guide_untrained():
    x = 1.4 * torch.randn(ROWS, 1)
    return two_sites, Conditional(), x, {"a": "optimisation", "b": "optimisation"}


def case_conditional_prior():
    def model(x):
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("z", dist.Normal(0.0, torch.where(w > 1.5, 5.0, 1.0)))
            pyro.sample("x", dist.Normal(w, 0.5), obs=x)

    class Guide(PyroModule):
        def __init__(self):
            super().__init__()
            self.network = mlp([1, 16, 2])

        def forward(self, x):
            loc, scale = self.network(x.unsqueeze(-1)).unbind(-1)
            with pyro.plate("data", len(x)):
                w = pyro.sample("w", dist.Normal(loc, torch.nn.functional.softplus(scale) + 0.01))
                pyro.sample("z", dist.Normal(0.0, torch.where(w > 1.5, 5.0, 1.0)))

    x = 1.1 * torch.randn(ROWS)
    # z follows w, of which the data tell: its KL is small, and not 0.
    return model, train(model, Guide(), x), x, {"w": "healthy", "z": {"model", "healthy", "joint"}}


def case_narrow_spike():
    """A likelihood that is constant but for a spike of posterior mass .2: KL is .5."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            inside = (z - 0.5).abs() < 0.02
            pyro.factor("spike", torch.where(inside, math.log(17.0), 0.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))

    return model, guide, torch.randn(ROWS), {"z": {"family", "optimisation"}}


def case_flat_likelihood():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(0.05 * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))

    return model, guide, torch.randn(ROWS), {"z": "model"}


CASES = {
    name.removeprefix("case_").replace("_", " "): case
    for name, case in globals().items()
    if name.startswith("case_")
}


def judged(found, expected):
    """Return right, honest or wrong for each latent, and what was said."""
    outcome = []
    for label, verdict in found.verdicts.items():
        wanted = expected.get(label, expected.get(label.partition("[")[0]))
        wanted = {wanted} if isinstance(wanted, str) else wanted
        outcome.append("right" if verdict in wanted else "honest" if verdict in HONEST else "wrong")
    if expected.get("direction"):
        dead = found.exact.directions["verdict"] == "collapsed"
        outcome.append("right" if dead.any() else "wrong")
    if "says" in expected:
        outcome.append("right" if expected["says"] in str(found) else "wrong")
    return outcome


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    totals, slowest = Counter(), 0.0
    for name, make in CASES.items():
        if options.only not in name:
            continue
        for seed in range(options.seeds):
            pyro.clear_param_store()
            pyro.set_rng_seed(seed)
            model, guide, x, expected = make()
            extra = {"reference": expected["reference"]} if "reference" in expected else {}
            start = time.perf_counter()
            found = autopsy(model, guide, x, seed=seed, **extra)
            seconds = time.perf_counter() - start
            slowest = max(slowest, seconds)
            outcome = judged(found, expected)
            totals.update(outcome)
            said = Counter(found.verdicts.values())
            words = ", ".join(f"{word} {count}" for word, count in said.items())
            worst = min(outcome, key=["wrong", "honest", "right"].index)
            print(f"{name:<42} seed {seed}  {worst:<7} {seconds:5.1f} s  {words}", flush=True)
            if worst == "wrong" or options.verbose:
                print(found, flush=True)
    print(f"{dict(totals)}; slowest autopsy {slowest:.1f} s")


if __name__ == "__main__":
    main()
