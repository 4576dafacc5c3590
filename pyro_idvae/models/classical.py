# SPDX-License-Identifier: Apache-2.0
"""Classical latent variable models that collapse without a neural network, with exact formulas."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_idvae._checks import check_count, check_floating, check_last_dim, check_real
from pyro_idvae.errors import ShapeError


class GaussianMixture(PyroModule):
    r"""A mixture of two Normals with its assignments summed out.

    .. math:: \theta \sim \mathrm{Beta}(5, 5),\quad \mu_k \sim N(0, 2),\quad
        \sigma_k \sim \mathrm{HalfNormal}(2),\quad
        x_i \sim \theta\,N(\mu_1, \sigma_1) + (1-\theta)\,N(\mu_2, \sigma_2)

    Where the two components are one, the likelihood does not depend on θ and its posterior is its
    prior: collapse by want of identifiability, with exact inference.

    Sites: ``theta``, ``mu`` and ``sigma`` (of event shape ``(2,)``), and ``x`` in the plate
    ``data``. The components may be exchanged; chains in separate labellings do not mix.

    Args:
        concentration: both parameters of θ's Beta prior.
        mean_scale: prior standard deviation of the means.
        scale_scale: scale of the HalfNormal prior of the standard deviations.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import GaussianMixture
        >>> mixture = GaussianMixture()
        >>> theta, mu, sigma = torch.tensor(0.5), torch.zeros(2), torch.ones(2)
        >>> mixture.assignment(torch.randn(3), theta, mu, sigma).probs[:, 0]
        tensor([0.5000, 0.5000, 0.5000])

    Reference:
        Wang, Blei & Cunningham, NeurIPS 2021, section 2.
    """

    def __init__(
        self, *, concentration: float = 5.0, mean_scale: float = 2.0, scale_scale: float = 2.0
    ) -> None:
        super().__init__()
        self.concentration = check_real("concentration", concentration, above=0.0)
        self.mean_scale = check_real("mean_scale", mean_scale, above=0.0)
        self.scale_scale = check_real("scale_scale", scale_scale, above=0.0)

    @staticmethod
    def _log_terms(x: Tensor, theta: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
        """Return log θ_k N(x; μ_k, σ_k), of shape ``x.shape + (2,)``."""
        log_weights = torch.stack([theta.log(), torch.log1p(-theta)], -1)
        densities: Tensor = dist.Normal(mu, sigma).log_prob(x.unsqueeze(-1))
        return log_weights + densities

    def assignment(self, x: Tensor, theta: Tensor, mu: Tensor, sigma: Tensor) -> Any:
        """Return p(y|x), the exact posterior of the assignments: a Categorical over 2."""
        return dist.Categorical(logits=self._log_terms(x, theta, mu, sigma))

    def log_likelihood(self, x: Tensor, theta: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
        """Return log p(x|θ, μ, σ) with the assignment summed out, of the shape of x."""
        return self._log_terms(x, theta, mu, sigma).logsumexp(-1)

    def forward(self, x: Tensor) -> None:
        """Run the model on observations of shape ``(n,)``."""
        check_floating("x", x)
        if x.dim() != 1:
            raise ShapeError(f"x has shape {tuple(x.shape)}: expected (n,)")
        one = torch.ones((), dtype=x.dtype, device=x.device)
        theta = pyro.sample("theta", dist.Beta(self.concentration * one, self.concentration * one))
        pair = one.expand(2)
        mu = pyro.sample("mu", dist.Normal(0 * pair, self.mean_scale * pair).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfNormal(self.scale_scale * pair).to_event(1))
        weights = torch.stack([theta, 1 - theta], -1)
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(mu, sigma))
        with pyro.plate("data", len(x)):
            pyro.sample("x", mixture, obs=x)


class ProbabilisticPCA(PyroModule):
    r"""Probabilistic PCA with a prior on its loadings.

    .. math:: w_{dk} \sim N(0, 2),\quad z_i \sim N(0, I_K),\quad x_i \sim N(w z_i, \sigma^2 I_D)

    With more latent than signal dimensions the spare ones are not identified.

    Sites: ``w`` of event shape ``(D, K)``, ``z`` of event shape ``(K,)`` and ``x`` of event shape
    ``(D,)``, the last two in the plate ``data``.

    Args:
        data_dim: D.
        latent_dim: K.
        scale: σ, known.
        loading_scale: prior standard deviation of w.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import ProbabilisticPCA
        >>> pca = ProbabilisticPCA(5, 2, scale=0.5)
        >>> w = torch.randn(5, 2)
        >>> pca.posterior(torch.randn(7, 5), w).mean.shape, pca.marginal(w).event_shape
        (torch.Size([7, 2]), torch.Size([5]))

    Reference:
        Tipping & Bishop, *Probabilistic Principal Component Analysis*, JRSS B 1999.
    """

    def __init__(
        self, data_dim: int, latent_dim: int, *, scale: float = 1.0, loading_scale: float = 2.0
    ) -> None:
        super().__init__()
        self.data_dim = check_count("data_dim", data_dim)
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.scale = check_real("scale", scale, above=0.0)
        self.loading_scale = check_real("loading_scale", loading_scale, above=0.0)

    def posterior(self, x: Tensor, w: Tensor) -> Any:
        r"""Return the exact p(z|x, w) = N(Σ wᵀx/σ², Σ) with Σ = (I + wᵀw/σ²)⁻¹.

        Args:
            x: observations, of shape ``batch + (D,)``.
            w: loadings, of shape ``(D, K)``.
        """
        check_last_dim("x", x, self.data_dim)
        self._check_loadings(w)
        eye = torch.eye(self.latent_dim, dtype=w.dtype, device=w.device)
        precision = eye + w.mT @ w / self.scale**2
        mean = torch.linalg.solve(precision, (x @ w).mT / self.scale**2).mT
        return dist.MultivariateNormal(mean, precision_matrix=precision)

    def marginal(self, w: Tensor) -> Any:
        """Return the exact p(x|w) = N(0, wwᵀ + σ²I), the latents integrated out."""
        self._check_loadings(w)
        zeros = torch.zeros(self.data_dim, dtype=w.dtype, device=w.device)
        return dist.LowRankMultivariateNormal(zeros, w, torch.full_like(zeros, self.scale**2))

    def kl_to_prior(self, x: Tensor, w: Tensor) -> Tensor:
        """Return KL(p(z|x, w) ‖ N(0, I)) for each data point, exact, in nats."""
        posterior = self.posterior(x, w)
        eye = torch.eye(self.latent_dim, dtype=w.dtype, device=w.device)
        prior = dist.MultivariateNormal(torch.zeros_like(eye[0]), eye)
        return torch.distributions.kl_divergence(posterior, prior)

    def forward(self, x: Tensor) -> None:
        """Run the model on observations of shape ``(n, D)``."""
        check_last_dim("x", x, self.data_dim)
        one = torch.ones((), dtype=x.dtype, device=x.device)
        loadings = (self.loading_scale * one).expand(self.data_dim, self.latent_dim)
        w = pyro.sample("w", dist.Normal(torch.zeros_like(loadings), loadings).to_event(2))
        latent = one.expand(self.latent_dim)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0 * latent, latent).to_event(1))
            pyro.sample("x", dist.Normal(z @ w.mT, self.scale * one).to_event(1), obs=x)

    def _check_loadings(self, w: Tensor) -> None:
        if w.shape != (self.data_dim, self.latent_dim):
            raise ShapeError(
                f"w has shape {tuple(w.shape)}: expected ({self.data_dim}, {self.latent_dim})"
            )
