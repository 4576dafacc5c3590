"""Models that have a certificate, or an estimate."""

import pyro
import pyro.distributions as dist
import torch

from benchmarks.certificate_truth.models import (
    DOUBLE,
    ROWS,
    Case,
    all_rows,
    example,
    grouped,
    local,
    rows_of,
    shared,
)
from pyro_idvae.distributions import InjectiveBernoulli, InjectiveNormal, InjectivePoisson
from pyro_idvae.transforms import brenier_injection


def bounded():
    """Yield all of them."""
    f, normal, x = example()
    g = brenier_injection(2, 3, hidden_dims=[8], lipschitz_bounds=(1.0, 2.0)).double()
    plane, x3 = InjectiveNormal(g), torch.randn(ROWS, 3, dtype=DOUBLE)
    one = rows_of(normal.condition)
    five = rows_of(lambda z: normal.condition(all_rows(z)))
    flat = dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0)
    yield Case("z local to the rows", "window", local(normal), x, normal, **one)
    yield Case("z of two dimensions", "window", local(plane, flat), x3, plane, prior=flat,
               latent_dim=2, limits=(-5.0, 5.0), **rows_of(plane.condition))  # fmt: skip
    yield Case("one z, 5 rows", "window", shared(normal), x, normal, **five)
    yield Case("one z expanded over 5 rows", "window", shared(normal, expand=True), x, normal,
               **five)  # fmt: skip
    yield Case("groups of 5 rows", "window", grouped(normal), x.expand(3, ROWS, 2), normal, **five)
    yield from priors(normal, plane, x, x3)
    yield from masks(normal, x, one)
    yield from covariates(f, x)
    yield from harmless(normal, x, one)
    yield from estimates(f, x)


def priors(normal, plane, x, x3):
    """Priors other than N(0, I)."""
    number = torch.ones(1, dtype=DOUBLE)
    given = {
        "Normal(3, 2)": (dist.Normal(3 * number, 2.0), (-15.0, 21.0)),
        "Uniform(-2, 2)": (dist.Uniform(-2 * number, 2 * number), (-2.0, 2.0)),
        "Uniform(0, 0.2)": (dist.Uniform(0 * number, 0.2 * number), (0.0, 0.2)),
        "Laplace(0, 2)": (dist.Laplace(0 * number, 2 * number), (-60.0, 60.0)),
        "Gamma(2, 1)": (dist.Gamma(2 * number, number), (0.0, 35.0)),
        "Gamma(0.2, 1)": (dist.Gamma(0.2 * number, number), (0.0, 20.0)),
        "Beta(2, 3)": (dist.Beta(2 * number, 3 * number), (0.0, 1.0)),
        "StudentT(4)": (dist.StudentT(4 * number, 0 * number, number), (-90.0, 90.0)),
        "LogNormal(0, 0.7)": (dist.LogNormal(0 * number, 0.7), (0.0, 40.0)),
        "Exponential(0.5)": (dist.Exponential(0.5 * number), (0.0, 60.0)),
    }
    one = rows_of(normal.condition)
    for name, (prior, limits) in given.items():
        yield Case(f"prior {name}", "window", local(normal, prior), x, normal, prior=prior,
                   limits=limits, **one)  # fmt: skip
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=DOUBLE)
    joint = dist.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), covariance)
    yield Case("prior Normal, correlation 0.8", "window", local(plane, joint), x3, plane,
               prior=joint, latent_dim=2, limits=(-5.0, 5.0),
               **rows_of(plane.condition))  # fmt: skip


def masks(normal, x, one):
    entries = torch.ones(ROWS, 2, dtype=torch.bool)
    whole = {"mask": lambda z, x: entries}
    yield Case("mask, nothing missing", "window", local(normal, **whole), x, normal, **one)
    first = torch.tensor([True, False]).expand(ROWS, 2)
    seen = rows_of(lambda z: normal.condition(z, mask=first[:1]))
    half = {"mask": lambda z, x: first}
    yield Case(
        "mask, one of two entries missing", "upper", local(normal, **half), x, normal, **seen
    )
    rows = torch.tensor([True, True, False, True, False])
    some = entries & rows.unsqueeze(-1)
    wide = rows_of(lambda z: normal.condition(all_rows(z), mask=some))
    yield Case(
        "one z, 3 of 5 rows there", "window", shared(normal, True, mask=some), x, normal, **wide
    )
    yield Case("one z, 3 of 5 rows there, by poutine.mask", "window",
               shared(normal, plate_mask=rows), x, normal, **wide)  # fmt: skip
    ragged = entries.clone()
    ragged[2:, 0] = False
    wide = rows_of(lambda z: normal.condition(all_rows(z), mask=ragged))
    yield Case("one z, 2 rows whole, 3 in part", "window", shared(normal, True, mask=ragged), x,
               normal, **wide)  # fmt: skip


def covariates(f, x):
    shift = torch.nn.Linear(3, 2).double()
    likelihood = InjectiveNormal(f, covariates=shift)
    c = torch.randn(ROWS, 3, dtype=DOUBLE)
    yield Case("covariates", "window", local(likelihood, covariates=lambda z, x: c), x, likelihood,
               **rows_of(lambda z: likelihood.condition(z, c[:1])))  # fmt: skip
    yield Case("one z, covariates of 5 rows", "window", shared(likelihood, covariates=c), x,
               likelihood, **rows_of(lambda z: likelihood.condition(z, c)))  # fmt: skip


def harmless(normal, x, one):
    def note(z, x):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=x[:, 0])
        pyro.factor("weights", -x.square().sum(-1))
        pyro.deterministic("square", z.square())

    yield Case("other sites that know nothing of z", "window", local(normal, extra=note), x, normal,
               **one)  # fmt: skip


def estimates(f, x):
    bernoulli, poisson = InjectiveBernoulli(f), InjectivePoisson(f)
    bits, counts = (x > 0).double(), torch.ones(ROWS, 2, dtype=DOUBLE)
    yield Case("Bernoulli", "estimate", local(bernoulli), bits, bernoulli,
               **rows_of(bernoulli.condition))  # fmt: skip
    wide = rows_of(lambda z: bernoulli.condition(all_rows(z)))
    yield Case("Bernoulli, one z, 5 rows", "estimate", shared(bernoulli), bits, bernoulli, **wide)
    prior = dist.Uniform(-1 * torch.ones(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    yield Case("Poisson, prior Uniform(-1, 1)", "estimate", local(poisson, prior), counts, poisson,
               prior=prior, limits=(-1.0, 1.0), **rows_of(poisson.condition))  # fmt: skip
