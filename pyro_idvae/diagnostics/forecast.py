# SPDX-License-Identifier: Apache-2.0
"""How many latents data have to offer, before any training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pyro_idvae._checks import check_count, check_floating, check_real
from pyro_idvae.distributions import Family, NormalFamily, in_noise_units, make_family
from pyro_idvae.distributions.base_rates import width_of
from pyro_idvae.distributions.base_scores import base_scores
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.programs.as_found import left_as_found

Array = np.ndarray[Any, Any]

TRACY_WIDOM = 0.9793
"""Its 95 % quantile, for real data."""
MOST_LINES = 10
"""Latents that are printed one by one."""


@dataclass(frozen=True)
class Forecast:
    """What a linear decoder with this noise keeps.

    Attributes:
        eigenvalues: of the data's covariance in units of the noise, from the largest.
        threshold: above which a latent is kept: β.
        nats: of each kept latent, ½ log(λ/β), from the largest; as many as ``active``.
        active: latents that are kept.
        noise_edge: noise alone has no larger eigenvalue in 95 % of data sets of so many rows
            (Johnstone 2001), 1 with infinitely many; what is kept below it may be chance.
        rows: of the data.
        family: name of the family.
        exact: whether the forecast is exact, which it is for probabilistic PCA.
    """

    eigenvalues: Array
    threshold: float
    nats: Array
    active: int
    noise_edge: float
    rows: int
    family: str
    exact: bool

    @property
    def above_noise(self) -> int:
        """Kept latents whose eigenvalue is none that noise alone would have."""
        return int((self.eigenvalues[: self.active] > self.noise_edge).sum())

    def __str__(self) -> str:
        few = ", ".join(f"{nats:.2f}" for nats in self.nats[:MOST_LINES])
        more = f", … ({self.active} in all)" if self.active > MOST_LINES else ""
        latents = "1 latent" if self.active == 1 else f"{self.active} latents"
        lines = [
            f"a linear decoder keeps {latents}, {self.nats.sum():.2f} nats a row together"
            + (f": {few}{more}" if self.active else ""),
            f"  noise alone has eigenvalues up to {self.noise_edge:.2f} in {self.rows} rows: "
            f"{self.above_noise} of these are larger",
        ]
        if self.exact:
            lines.append("  exact for probabilistic PCA at the maximum of its likelihood")
        else:
            lines.append(
                f"  a hint: {self.family} noise is taken for Normal of its size at the base rates"
            )
        lines.append(
            "  a hint for other decoders, which may bend; a floor keeps latents alive whatever the "
            "spectrum"
        )
        return "\n".join(lines)


@left_as_found
def forecast(
    x: Tensor,
    *,
    scale: float | Tensor | None = None,
    family: str | Family = "normal",
    latent_dim: int | None = None,
    beta: float = 1.0,
) -> Forecast:
    r"""Tell from the spectrum of data how many latents a linear decoder keeps, at how many nats.

    With λ the eigenvalues of the covariance of x in units of the noise, probabilistic PCA of this
    noise has at its maximum a latent for each λ above 1, and with a weight β on the KL, which is
    noise of variance β, for each λ above β:

    .. math:: \mathbb E\,\mathrm{KL}(p(z_k|x)\,\|\,p(z_k)) = \tfrac12\log(\lambda_k/\beta)

    on average over these x. The others collapse in every optimum: what they could say is less than
    the noise. For a family that is not Normal the scores of x at its base rates stand for x, in
    units of their own standard deviation: to first order its noise is Normal there.

    Args:
        x: observations, of shape ``(rows,) + event_shape``.
        scale: of Normal noise, a number or one for each feature; wanted for ``"normal"``, and for
            no other family.
        family: its name, or the family itself if it has arguments.
        latent_dim: K, latents that there are at most; as many as features if None.
        beta: weight of the KL.

    Returns:
        A :class:`Forecast`; nats a row.

    Raises:
        ArgumentError: for a scale that is missing or not positive, or one of another family.
        DataError: for fewer than two rows, or entries that are not finite or outside the support.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> z, loadings = torch.randn(500, 2), torch.tensor([[3.0, 0, 0], [0, 0.6, 0]])
        >>> found = idvae.forecast(z @ loadings + 0.5 * torch.randn(500, 3), scale=0.5)
        >>> found.above_noise
        2

    Reference:
        Johnstone, *On the Distribution of the Largest Eigenvalue*, Annals of Statistics 2001;
        Tipping & Bishop, *Probabilistic Principal Component Analysis*, 1999; Lucas et al., *Don't
        Blame the ELBO! A Linear VAE Perspective on Posterior Collapse*, NeurIPS 2019.
    """
    plain = _family(family, scale)
    check_real("beta", beta, above=0.0)
    if not isinstance(x, Tensor) or not plain.integer_data:
        check_floating("x", x)
    if len(x) < 2 or x.dim() < 1:
        raise DataError(f"x has shape {tuple(x.shape)}: a covariance takes two rows at least")
    white = _standardised(plain, x)
    rows, width = white.shape
    most = width if latent_dim is None else check_count("latent_dim", latent_dim)
    # Of the mean's own size: a maximum likelihood divides by the number of rows.
    values = np.linalg.svd(white - white.mean(0), compute_uv=False) ** 2 / rows
    eigenvalues = np.concatenate([values, np.zeros(max(0, width - len(values)))])
    active = min(int((eigenvalues > beta).sum()), most)
    return Forecast(
        eigenvalues=eigenvalues,
        threshold=float(beta),
        nats=0.5 * np.log(eigenvalues[:active] / beta),
        active=active,
        noise_edge=_noise_edge(rows, width),
        rows=rows,
        family=plain.name,
        exact=isinstance(plain, NormalFamily),
    )


def _noise_edge(rows: int, width: int) -> float:
    """Return the 95 % quantile of white noise's largest eigenvalue, by Tracy and Widom's law."""
    free, features = math.sqrt(rows - 1), math.sqrt(width)
    spread: float = (free + features) * (1 / free + 1 / features) ** (1 / 3)
    return ((free + features) ** 2 + TRACY_WIDOM * spread) / rows


def _family(family: str | Family, scale: float | Tensor | None) -> Family:
    """Return the family, with its scale where it has one."""
    if isinstance(family, Family):
        if scale is not None:
            raise ArgumentError("scale was given with a family that has its own: leave it out")
        return family
    if family == "normal":
        if scale is None:
            raise ArgumentError(
                "scale=None: the forecast is for a size of the noise; pass the scale of the "
                "likelihood that is to be trained"
            )
        return make_family("normal", scale=scale)
    if scale is not None:
        raise ArgumentError(f"scale was given for {family!r}: its noise has the size it has")
    return make_family(family)


def _standardised(family: Family, x: Tensor) -> Array:
    """Return the scores of rows at the base rates, in units of their standard deviation."""
    if isinstance(family, NormalFamily):
        if x.dim() != 2:
            raise ShapeError(f"x has shape {tuple(x.shape)}: expected (rows, features)")
        if not bool(x.isfinite().all()):
            raise DataError("x has entries that are not finite: clean them, or leave out such rows")
        scale = family.get_global("scale").detach().double().cpu()
        white: Array = (x.double().cpu() / scale).numpy()
        return white
    width = width_of(family, x)
    data = x.double().cpu() if x.is_floating_point() else x.cpu()
    found: Array = base_scores(in_noise_units(family, x, width).double(), data, width).numpy()
    return found
