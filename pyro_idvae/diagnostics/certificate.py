# SPDX-License-Identifier: Apache-2.0
"""What is guaranteed before training: information in nats that a likelihood must carry."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pyro_idvae._checks import check_count
from pyro_idvae.distributions import (
    InjectiveLikelihood,
    Likelihood,
    NormalFamily,
    information_window,
)
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.likelihood_call import is_masked
from pyro_idvae.programs.run import Program

PRIOR = "the prior is N(0, I)"
FROM_MODEL = "x is drawn from the model: the average is over the model's own p(x), not over data"
EXACT = "the posterior is the exact one: a guide may lose what it likes"


@dataclass(frozen=True)
class Certificate:
    """Information that x carries about z, E_{p(x)} KL(p(z|x) ‖ p(z)), in nats.

    Attributes:
        kind: ``"certificate"``, a proven window, or ``"estimate"``, a Monte-Carlo lower bound.
        family: name of the likelihood's family.
        latent_dim: K.
        lipschitz_bounds: (L, M) of f, now; for Normal noise in units of its scale.
        low: nats at least, in all dimensions together.
        high: nats at most; None for an estimate.
        low_per_coordinate: nats at least of one coordinate given the others; None for an estimate.
        standard_error: Monte-Carlo error of ``low``, 0 for a certificate.
        num_samples: draws of z behind an estimate, which cannot exceed their logarithm; else 0.
        assumptions: what the numbers rest on.
    """

    kind: str
    family: str
    latent_dim: int
    lipschitz_bounds: tuple[float, float]
    low: float
    high: float | None
    low_per_coordinate: float | None
    standard_error: float
    num_samples: int
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        lower, upper = self.lipschitz_bounds
        if self.kind == "certificate":
            head = (
                f"certificate: {self.low:.3f} to {self.high:.3f} nats, and at least "
                f"{self.low_per_coordinate:.3f} nats of each coordinate given the others"
            )
        else:
            head = (
                f"estimate, no certificate: {self.low:.3f} ± {self.standard_error:.3f} nats or "
                f"more (Bhattacharyya bound from {self.num_samples} draws, which show at most "
                f"{math.log(self.num_samples):.2f})"
            )
        lines = [
            head,
            f"  {self.family} likelihood, {self.latent_dim} latent dimensions, "
            f"L = {lower:.4g}, M = {upper:.4g}",
        ]
        return "\n".join(lines + [f"  if {assumption}" for assumption in self.assumptions])

    def to_json(self) -> str:
        """Return all fields as a JSON object."""
        return json.dumps(asdict(self))


def certify(model: Program | Likelihood, x: Any = None, *, num_samples: int = 1000) -> Certificate:
    r"""State how much information about z a likelihood guarantees, in nats.

    For a Normal likelihood of an injection with bounds (L, M), in units of the noise,

    .. math:: \tfrac K2\log(1+L^2) \le \mathbb E_{p(x)}\mathrm{KL}(p(z|x)\,\|\,p(z))
        \le \tfrac K2\log(1+M^2)

    For other families :math:`I \ge -\mathbb E_z\log\mathbb E_{z'}e^{-D_B(z,z')}` with the
    Bhattacharyya distance D_B is estimated from draws (Kolchinsky & Tracey 2017); it is a lower
    bound in expectation, at most the logarithm of the number of draws, and an estimate all the
    same. Nothing is cached: the numbers are those of the parameters now.

    Given a model, it is run once on x, and the certificate is refused unless the likelihood is fed
    with the latent site's value itself, the prior is N(0, I), and the likelihood scores the
    observed site. Given a likelihood, N(0, I) is assumed.

    Args:
        model: a Pyro model, or an injective likelihood.
        x: the model's data: a Tensor, or a tuple or dict of its arguments.
        num_samples: draws of z for the estimate.

    Returns:
        A :class:`Certificate`.

    Raises:
        NoCertificateError: if there is none, saying why.

    Example:
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(8, 2, "normal", rate_window=(1.0, 5.0))
        >>> certificate = idvae.certify(vae.likelihood)
        >>> round(certificate.low, 3), round(certificate.high, 3)
        (1.0, 5.0)
    """
    if isinstance(model, Likelihood):
        if x is not None:
            raise ArgumentError("x was given with a likelihood: pass the model with data")
        return _of_likelihood(model, num_samples, PRIOR)
    if x is None:
        raise ArgumentError("x=None: certify a model on its data, or pass its likelihood alone")
    return _of_likelihood(_checked_likelihood(model, x), num_samples, f"{PRIOR}, which was checked")


def _of_likelihood(likelihood: Likelihood, num_samples: int, prior: str) -> Certificate:
    if not isinstance(likelihood, InjectiveLikelihood):
        raise NoCertificateError(
            f"a {type(likelihood).__name__} is not identifiable: nothing keeps its network from "
            "ignoring z, so nothing is guaranteed; use an injective likelihood"
        )
    bounds = likelihood.lipschitz_bounds()
    certified = isinstance(likelihood.family, NormalFamily)
    high: float | None = None
    if certified:
        low, high = likelihood.information_bounds()
        error = 0.0
    else:
        if likelihood.covariates is not None:
            raise NoCertificateError(
                f"a {likelihood.family.name} likelihood with covariates carries another amount at "
                "each value of them: certify it without"
            )
        low, error = _bhattacharyya_bound(likelihood, num_samples)
    return Certificate(
        kind="certificate" if certified else "estimate",
        family=likelihood.family.name,
        latent_dim=likelihood.latent_dim,
        lipschitz_bounds=bounds,
        low=low,
        high=high,
        low_per_coordinate=information_window(bounds, 1)[0] if certified else None,
        standard_error=error,
        num_samples=0 if certified else num_samples,
        assumptions=(prior, FROM_MODEL, EXACT),
    )


@torch.no_grad()
def _bhattacharyya_bound(likelihood: InjectiveLikelihood, num_samples: int) -> tuple[float, float]:
    """Return −(1/S) Σ_i log (1/S) Σ_j exp(−D_B(z_i, z_j)) and its standard error.

    With i = j among the terms it bounds the information about which of the S draws made x, which
    is at most I(x; z): low in expectation, and at most log S.
    """
    check_count("num_samples", num_samples, minimum=2)
    like = next(likelihood.injection.parameters())
    shape = (num_samples, likelihood.latent_dim)
    eta = likelihood.injection(torch.randn(shape, dtype=like.dtype, device=like.device))
    terms = torch.cat(
        [
            -(-likelihood.family.bhattacharyya(rows.unsqueeze(-2), eta)).logsumexp(-1)
            for rows in eta.split(max(1, 2**22 // eta.numel()))
        ]
    ) + math.log(num_samples)
    return terms.mean().item(), terms.std().item() / math.sqrt(num_samples)


def _checked_likelihood(model: Program, x: Any) -> Likelihood:
    """Return the likelihood between the one latent and the one observed site."""
    call = BoundModel(model, None, as_arguments(x)).likelihood_call()
    if is_masked(call.observed):
        raise NoCertificateError("observations are masked: the window holds with nothing missing")
    return call.likelihood
