"""Effective draws per second of exact posteriors: ours, Pyro's NUTS and BlackJAX's NUTS.

One thread, one run, float32. A model with 2 latent dimensions and 8 observed ones. What counts is
the 1st percentile, over all latents, of the smaller effective sample size of z and z², per second
of a whole second call: warm-up counts, compilation does not. BlackJAX is the `bench` extra.
"""

import argparse
import os
import time
from statistics import median

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
import pyro
import torch
from pyro.infer import MCMC, NUTS

import pyro_idvae as idvae
from pyro_idvae.diagnostics.estimators import effective_sample_size
from pyro_idvae.infer.rowwise.vectorized import RowSampler
from pyro_idvae.programs import BoundModel
from pyro_idvae.programs.run import silent

SCALE = 0.3


def make(rows):
    torch.manual_seed(0)
    vae = idvae.IDVAE(8, 2, "normal", hidden_dims=[32], scale=SCALE)
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(rows, 2)).sample()
    return vae.model, x


def summary(draws, seconds):
    """Effective draws per second, and means with their Monte-Carlo standard errors."""
    draws = np.asarray(draws, dtype=np.float64)
    draws = draws.reshape(*draws.shape[:2], -1)
    ess = effective_sample_size(draws)
    worst = np.minimum(ess, effective_sample_size(draws**2))
    error = draws.std((0, 1)) / np.sqrt(ess)
    return np.percentile(worst, 1) / seconds, draws.mean((0, 1)), error


def vectorized(model, x, *, chains=4, warmup=100, samples=500):
    """Return a function that samples by VectorizedHMC, compiled."""

    def run():
        start = time.perf_counter()
        bound = BoundModel(model, None, ((x,), {}))
        sampler = RowSampler(bound, chains=chains, warmup_steps=warmup, jit_compile=True)
        for _ in range(warmup):
            sampler.advance()
        positions = torch.stack([sampler.advance().positions for _ in range(samples)], 1)
        return positions, time.perf_counter() - start

    return run


def pyro_nuts(model, x, *, warmup=300, samples=300):
    """Return a function that samples the joint posterior of all rows by Pyro's NUTS."""

    def run():
        with silent(model):
            kernel = NUTS(model, jit_compile=True, ignore_jit_warnings=True)
            sampler = MCMC(kernel, samples, warmup, disable_progbar=True)
            start = time.perf_counter()
            sampler.run(x)
            seconds = time.perf_counter() - start
        return sampler.get_samples(group_by_chain=True)["latent"], seconds

    return run


def blackjax_nuts(model, x, *, chains=4, warmup=200, samples=500):
    """Return a function that samples by BlackJAX's NUTS, vmapped over points and chains."""
    import blackjax
    import jax
    import jax.numpy as jnp

    injection = model.likelihood.injection

    def potential(part):
        out = torch.nn.functional.softplus(part.raw_out)
        weight, bias, out, shift, alpha = (
            jnp.asarray(t.detach().numpy())
            for t in (part.weight, part.bias, out, part.shift, part.strong_convexity())
        )

        def gradient(z):
            a = weight @ z + bias
            return alpha * z + weight.T @ (out * 0.5 * (a + jnp.sqrt(a**2 + 0.5))) + shift

        return gradient

    g1, g2 = potential(injection.g1.potential), potential(injection.g2.potential)
    matrix = jnp.asarray(injection.beta.matrix().detach().numpy())

    def log_density(z, x):
        mean = SCALE * g2(matrix @ g1(z))
        return -0.5 * jnp.sum(((x - mean) / SCALE) ** 2) - 0.5 * jnp.sum(z**2)

    def one(key, x):
        def target(z):
            return log_density(z, x)

        first, second, third = jax.random.split(key, 3)
        adapt = blackjax.window_adaptation(blackjax.nuts, target, is_mass_matrix_diagonal=False)
        (state, parameters), _ = adapt.run(first, jax.random.normal(third, (2,)), num_steps=warmup)
        kernel = blackjax.nuts(target, **parameters).step

        def step(state, key):
            state, _ = kernel(key, state)
            return state, state.position

        _, positions = jax.lax.scan(step, state, jax.random.split(second, samples))
        return positions

    everyone = jax.jit(jax.vmap(jax.vmap(one, (0, 0)), (0, None)))
    data = jnp.asarray(x.numpy())
    counter = iter(range(1000))

    def run():
        keys = jax.random.split(jax.random.key(next(counter)), chains * len(x))
        start = time.perf_counter()
        positions = everyone(keys.reshape(chains, len(x)), data).block_until_ready()
        seconds = time.perf_counter() - start
        return np.asarray(positions).transpose(0, 2, 1, 3), seconds

    z = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    ours = torch.distributions.Normal(0, 1).log_prob(torch.tensor(z)).sum(-1) + (
        model.likelihood.condition(torch.tensor(z)).log_prob(x[0])
    )
    theirs = jax.vmap(log_density, (0, None))(jnp.asarray(z), data[0])
    gap = np.ptp(ours.detach().numpy() - np.asarray(theirs))
    assert gap < 1e-3 * np.abs(theirs).max(), f"the two models differ by {gap} nats"
    return run


def agreement(one, other):
    """Return the share of latents whose means differ by more than 4 standard errors."""
    gap = np.abs(one[1] - other[1]) / np.hypot(one[2], other[2])
    return float((gap > 4).mean()), float(np.sqrt((gap**2).mean()))


def race(name, ours, theirs, *, rounds, wanted):
    ours(), theirs()
    found = [(summary(*ours()), summary(*theirs())) for _ in range(rounds)]
    a, b = ([pair[side][0] for pair in found] for side in (0, 1))
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    beyond, typical = agreement(*found[-1])
    print(
        f"VectorizedHMC against {name}: {median(a):.0f} and {median(b):.1f} effective draws a "
        f"second, ratio of medians {median(a) / median(b):.1f} ({ratios[0]:.1f} to "
        f"{ratios[-1]:.1f} over {rounds} rounds; wanted at least {wanted}); means differ by "
        f"{typical:.2f} standard errors (rms), by more than 4 in {100 * beyond:.2f} % of latents",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["blackjax", "nuts", "growth"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    model, x = make(options.rows)
    ours = vectorized(model, x)
    if options.only in (None, "blackjax"):
        race("BlackJAX's NUTS", ours, blackjax_nuts(model, x), rounds=options.rounds, wanted=8)
    if options.only in (None, "nuts"):
        race("Pyro's NUTS", ours, pyro_nuts(model, x), rounds=2, wanted=40)
    if options.only in (None, "growth"):
        costs = {}
        for rows in (100, 1000, 10_000):
            run = vectorized(*make(rows))
            run()
            costs[rows] = median(1 / summary(*run())[0] for _ in range(3))
            print(f"N = {rows}: {1e3 * costs[rows]:.3f} ms per effective draw of all rows")
        print(
            f"from 100 to 10,000 rows the cost grows by {costs[10_000] / costs[100]:.0f} "
            "(wanted at most 100)"
        )


if __name__ == "__main__":
    main()
