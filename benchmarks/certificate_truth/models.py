"""Models of one latent whose posterior is known on a grid, and what is to be said of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from pyro_idvae.distributions import InjectiveNormal
from pyro_idvae.transforms import brenier_injection

DOUBLE = torch.double
ROWS = 5
STANDARD = dist.Normal(torch.zeros(1, dtype=DOUBLE), 1.0)


@dataclass
class Case:
    """A model, what is to be said of it, and its likelihood on a grid of latents."""

    name: str
    kind: str  # window, upper, estimate or refused
    model: Callable[..., Any]
    arguments: Any
    bare: Any  # the likelihood, whose window a careless certificate would print
    words: str = ""  # of the refusal
    sample: Callable[[Any], Any] | None = None  # z (S, K) -> x (S, ...)
    log_lik: Callable[[Any, Any], Any] | None = None  # x (S, ...), z (G, K) -> (S, G)
    prior: Any = STANDARD  # elementwise, or of event shape (K,)
    factor: Callable[[Any], Any] | None = None  # z (G, K) -> (G,)
    limits: tuple[float, float] = (-9.0, 9.0)
    latent_dim: int = 1
    points: int = 2001

    def truth(self, draws, seed=0):
        """Return E KL(p(z|x) ‖ p(z)) and its standard error; None where there is no joint law."""
        if self.log_lik is None:
            return None
        torch.manual_seed(seed)
        points = self.points if self.latent_dim == 1 else 91
        low, high = self.limits
        # Midpoints: priors may be infinite at the ends.
        line = low + (high - low) * (torch.arange(points, dtype=DOUBLE) + 0.5) / points
        grid = torch.cartesian_prod(*[line] * self.latent_dim).reshape(-1, self.latent_dim)
        log_p = self.prior.log_prob(grid)
        log_p = (log_p.sum(-1) if log_p.dim() > 1 else log_p).log_softmax(0)
        if self.factor is not None:
            log_p = (log_p + self.factor(grid)).log_softmax(0)
        z = grid[torch.multinomial(log_p.exp(), draws, replacement=True)]
        found = []
        with torch.no_grad():
            for part in z.split(max(1, 2_000_000 // (len(grid) * ROWS))):
                log_post = (log_p + self.log_lik(self.sample(part), grid)).log_softmax(-1)
                terms = log_post.exp() * (log_post - log_p)
                found.append(terms.nan_to_num().sum(-1))
        kl = torch.cat(found)
        return kl.mean().item(), kl.std().item() / math.sqrt(draws)


def rows_of(conditional):
    """Return sampler and log-likelihood of x given z from ``conditional(z)``: rows last."""

    def sample(z):
        return conditional(z.unsqueeze(-2)).sample()

    def log_lik(x, z):
        log_prob = conditional(z.unsqueeze(-2)).log_prob(x.unsqueeze(1))
        return log_prob.sum(-1)

    return {"sample": sample, "log_lik": log_lik}


def local(likelihood, prior=STANDARD, feed=lambda z: z, extra=lambda z, x: None, **options):
    """Return a model with one latent for each row."""

    def model(x):
        pyro.module("likelihood", likelihood)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior.to_event(1) if not prior.event_shape else prior)
            given = {name: value(z, x) for name, value in options.items()}
            extra(z, x)
            pyro.sample("x", likelihood.condition(feed(z), **given), obs=x)

    return model


def shared(likelihood, expand=False, covariates=None, mask=None, plate_mask=True):
    """Return a model with one latent for all rows."""

    def model(x):
        pyro.module("likelihood", likelihood)
        z = pyro.sample("z", STANDARD.to_event(1))
        options = {} if mask is None else {"mask": mask}
        with pyro.plate("data", len(x)), poutine.mask(mask=plate_mask):
            seen = z.expand(len(x), -1) if expand else z
            pyro.sample("x", likelihood.condition(seen, covariates, **options), obs=x)

    return model


def grouped(likelihood):
    def model(x):
        with pyro.plate("groups", len(x), dim=-2):
            z = pyro.sample("z", STANDARD.to_event(1))
            with pyro.plate("rows", x.shape[1], dim=-1):
                pyro.sample("x", likelihood.condition(z), obs=x)

    return model


def example(seed=0):
    """Return an injection of one latent, a Normal likelihood of it and data of 5 rows."""
    torch.manual_seed(seed)
    f = brenier_injection(1, 2, hidden_dims=[8], lipschitz_bounds=(1.0, 2.0)).double()
    normal = InjectiveNormal(f, scale=torch.tensor([0.3, 2.0], dtype=DOUBLE))
    return f, normal, torch.randn(ROWS, 2, dtype=DOUBLE)


def all_rows(z):
    """Return latents of shape ``(..., 1, K)`` once for each row."""
    return z.expand(*z.shape[:-2], ROWS, z.shape[-1])
