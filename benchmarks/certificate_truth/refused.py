"""Models that are refused."""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from benchmarks.certificate_truth.models import (
    DOUBLE,
    ROWS,
    STANDARD,
    Case,
    example,
    local,
    rows_of,
)
from pyro_idvae.distributions import InjectiveBinomial, InjectiveNormal
from pyro_idvae.transforms import brenier_injection, injective_linear


def refused():
    """Yield all of them."""
    f, normal, x = example()
    one = rows_of(normal.condition)
    yield from heavy_priors(normal, x, one)
    yield from extra_terms(normal, x, one)
    yield from made_of_z(f, normal, x, one)
    yield from other_inputs(normal, x)
    yield from made_of_x(f, normal, x, one)
    yield from odd(f, normal, x)


def heavy_priors(normal, x, one):
    """Priors whose variance or entropy is not known, or not finite."""
    number = torch.ones(1, dtype=DOUBLE)
    cauchy, wide = dist.Cauchy(0 * number, number), dist.StudentT(2 * number, 0 * number, number)
    yield Case("prior Cauchy", "refused", local(normal, cauchy), x, normal, "Cauchy",
               prior=cauchy, limits=(-400.0, 400.0), points=8001, **one)  # fmt: skip
    yield Case("prior StudentT(2)", "refused", local(normal, wide), x, normal,
               "no finite variance", prior=wide, limits=(-200.0, 200.0), points=4001,
               **one)  # fmt: skip
    spike = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.5, 0.5], dtype=DOUBLE)),
        dist.Normal(torch.zeros(2, dtype=DOUBLE), torch.tensor([0.05, 1.41], dtype=DOUBLE)),
    ).expand([1])
    yield Case("prior a mixture of variance 1", "refused", local(normal, spike), x, normal,
               "MixtureSameFamily", prior=spike, **one)  # fmt: skip


def extra_terms(normal, x, one):
    """Other densities that depend on z."""
    terms = {
        "factor -50 z²": lambda z: -50 * z.square().sum(-1),
        "factor -5 z²": lambda z: -5 * z.square().sum(-1),
        "factor 0 for -3.5 < z < 3.5": lambda z: 60 * (z.norm(dim=-1) > 3.5).double(),
        "factor 3 cos(6z)": lambda z: 3 * (6 * z[..., 0]).cos(),
        "factor of z > 3 alone": lambda z: 50 * (z[..., 0] - 3).relu(),
    }
    for name, term in terms.items():
        limits = (-9.0, 60.0) if "alone" in name else (-9.0, 9.0)

        def add(z, x, term=term):
            pyro.factor("f", term(z))

        yield Case(name, "refused", local(normal, extra=add), x, normal, "'f' depends on z",
                   factor=term, limits=limits, **one)  # fmt: skip

    def second(z, x):
        pyro.sample("y", dist.Normal(z[..., 0], 0.05), obs=x[:, 0])

    def both(z):
        eta = torch.cat([normal.family(normal.eta(z)).loc, z], -1)
        scale = torch.cat([normal.family.get_global("scale"), torch.tensor([0.05])])
        return dist.Normal(eta, scale).to_event(1)

    yield Case("a second observation of z", "refused", local(normal, extra=second), x, normal,
               "'y' depends on z", **rows_of(both))  # fmt: skip


def made_of_z(f, normal, x, one):
    """Parts of the likelihood's call that are made of z."""
    flat = injective_linear(1, 2, min_singular_value=1.0, max_singular_value=1.0, bias=False)
    flat = flat.double()
    undo = torch.nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        undo.weight.copy_(-flat.matrix())
    undone = InjectiveNormal(flat, covariates=undo)
    yield Case("covariates of z that undo f", "refused", local(undone, covariates=lambda z, x: z),
               x, undone, "'covariates' depends on z",
               **rows_of(lambda z: undone.condition(z, z)))  # fmt: skip
    far = {"covariates": lambda z, x: torch.where(z.abs() > 3, z, torch.zeros_like(z))}
    yield Case("covariates of z beyond 3", "refused", local(undone, **far), x, undone,
               "'covariates' depends on z",
               **rows_of(lambda z: undone.condition(z, far["covariates"](z, x))))  # fmt: skip

    def hidden(z, x):
        return (z > 0).expand(*z.shape[:-1], 2)

    yield Case("mask of z", "refused", local(normal, mask=hidden), x, normal, "'mask' depends on z")
    binomial = InjectiveBinomial(f, total_count=10)

    def trials(z, x=None):
        return torch.where(z > 0, 10.0, 1.0)

    def log_lik(x, z):
        count, x = trials(z.unsqueeze(-2)), x.unsqueeze(1)
        possible = (x <= count).all(-1)
        conditional = binomial.condition(z.unsqueeze(-2), total_count=count)
        return conditional.log_prob(x.minimum(count)).where(possible, -math.inf).sum(-1)

    few = {"total_count": lambda z, x: torch.ones(1, dtype=DOUBLE)}
    yield Case("Binomial of 10 called with 1 trial", "refused", local(binomial, **few),
               (x > 0).double(), binomial, "total_count is given", **rows_of(
                   lambda z: binomial.condition(z, total_count=torch.ones(1, dtype=DOUBLE)),
               ))  # fmt: skip
    yield Case("number of trials of z", "refused", local(binomial, total_count=trials),
               (x > 0).double(), binomial, "'total_count' depends on z", log_lik=log_lik,
               sample=rows_of(lambda z: binomial.condition(z, total_count=trials(z)))["sample"],
               )  # fmt: skip
    own = InjectiveNormal(f)

    changed = InjectiveNormal(f)

    def rescaled(x):
        z = pyro.sample("z", STANDARD.to_event(1))
        changed.family.log_scale = z.squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", changed.condition(z), obs=x)

    yield Case("noise scale of z", "refused", rescaled, x, own, "buffer .* depends on z",
               **rows_of(lambda z: dist.Normal(z.exp() * f(z), z.exp()).expand(
                   [*z.shape[:-2], ROWS, 2]).to_event(1)))  # fmt: skip

    def tempered(scale, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", STANDARD.to_event(1))
            with poutine.scale(scale=scale(z)):
                pyro.sample("x", normal.condition(z), obs=x)

    yield Case("densities scaled by 0.1", "refused", lambda x: tempered(lambda z: 0.1, x), x,
               normal, "scaled", sample=one["sample"],
               log_lik=lambda x, z: 0.1 * one["log_lik"](x, z))  # fmt: skip
    yield Case("densities scaled where z is large", "refused", lambda x: tempered(
               lambda z: torch.where(z[..., 0].abs() > 4, 2.0, 1.0), x), x, normal,
               "scaled")  # fmt: skip

    def moved(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", STANDARD.to_event(1))
            pyro.sample("x", own.condition(z), obs=x + own.eta(z))

    yield Case("data moved by f(z)", "refused", moved, x, own, "what is observed .* depends on z",
               **rows_of(lambda z: dist.Normal(0 * own.eta(z), 1.0).to_event(1)))  # fmt: skip


def other_inputs(normal, x):
    """Likelihoods that are not fed with z itself, or not always the same one."""
    for name, feed in {
        "fed with 0 z": lambda z: 0 * z,
        "fed with z clamped to 0.1": lambda z: z.clamp(-0.1, 0.1),
        "fed with z rounded": lambda z: z.round(),
    }.items():
        yield Case(name, "refused", local(normal, feed=feed), x, normal, "not fed with",
                   **rows_of(lambda z, feed=feed: normal.condition(feed(z))))  # fmt: skip
    own = InjectiveNormal(example()[0])
    other = InjectiveNormal(injective_linear(1, 2, min_singular_value=9.0).double())

    def branch(x):
        z = pyro.sample("z", STANDARD.to_event(1))
        pyro.module("other", other)
        with pyro.plate("data", len(x)):
            pyro.sample("x", (other if z.abs() > 2.5 else own).condition(z), obs=x)

    def either(z):
        loc = torch.where(z.abs() > 2.5, other.eta(z), own.eta(z))
        return dist.Normal(loc, 1.0).expand([*z.shape[:-2], ROWS, 2]).to_event(1)

    yield Case("another likelihood for z beyond 2.5", "refused", branch, x, own, "where z moves",
               **rows_of(either))  # fmt: skip


def made_of_x(f, normal, x, one):
    """Parts of the model that are made of the data."""
    censored = {"mask": lambda z, x: x < 0}

    def log_lik(x, z):
        x = x.unsqueeze(1)
        every = z.unsqueeze(-2).expand(len(x), *z.shape[:-1], 1, 1)
        return (
            normal.condition(every, mask=(x < 0).expand(*every.shape[:-1], 2)).log_prob(x).sum(-1)
        )

    yield Case("mask of x", "refused", local(normal, **censored), x, normal,
               "'mask' depends on the observed data", sample=one["sample"],
               log_lik=log_lik)  # fmt: skip
    same = torch.nn.Identity()
    likelihood = InjectiveNormal(f, covariates=same)
    yield Case("covariates of x", "refused", local(likelihood, covariates=lambda z, x: x), x,
               likelihood, "'covariates' depends on the observed data")  # fmt: skip

    def informed(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, :1], 1.0).to_event(1))
            pyro.sample("x", normal.condition(z), obs=x)

    yield Case(
        "prior of x", "refused", informed, x, normal, "prior .* depends on the observed data"
    )


def odd(f, normal, x):
    """The rest."""

    def two(x):
        pyro.sample("w", dist.Normal(0.0, 1.0))
        local(normal)(x)

    yield Case("two latents", "refused", two, x, normal, r"latent sites \['w', 'z'\]")

    def improper(x):
        with pyro.plate("data", len(x)):
            with poutine.mask(mask=torch.tensor(False)):
                z = pyro.sample("z", STANDARD.to_event(1))
            pyro.sample("x", normal.condition(z), obs=x)

    yield Case("prior masked out", "refused", improper, x, normal, "masked by")

    def repeated(x):
        with pyro.plate("data", 4):
            z = pyro.sample("z", STANDARD.to_event(1))
            pyro.sample("x", normal.condition(z), obs=x[0])

    yield Case("one observation scored under 4 latents", "refused", repeated, x, normal,
               "would count as")  # fmt: skip

    shaky = {"covariates": lambda z, x: torch.randn(len(x), 2, dtype=DOUBLE)}
    likelihood = InjectiveNormal(f, covariates=torch.nn.Identity())
    yield Case("random shifts", "refused", local(likelihood, **shaky), x, likelihood,
               "depends on random numbers",
               sample=lambda z: likelihood.condition(
                   z.unsqueeze(-2), torch.randn(len(z), 1, 2, dtype=DOUBLE)).sample(),
               log_lik=lambda x, z: dist.Normal(
                   f(z).unsqueeze(-2), math.sqrt(2)).to_event(1).log_prob(
                   x.unsqueeze(1)).sum(-1))  # fmt: skip
    broken = InjectiveNormal(brenier_injection(1, 2, hidden_dims=[8]).double())
    with torch.no_grad():
        broken.injection.g1.potential.weight[0] = torch.nan
    yield Case("weights that are NaN", "refused", local(broken), x, broken, "not finite")
