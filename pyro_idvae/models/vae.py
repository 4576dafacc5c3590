# SPDX-License-Identifier: Apache-2.0
"""Variational autoencoders as a Pyro model/guide pair, identifiable or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae._abstract import may_override
from pyro_idvae._checks import check_callable, check_floating
from pyro_idvae.distributions import (
    Likelihood,
)
from pyro_idvae.errors import ArgumentError, DataError, ShapeError


class VAEModel(PyroModule):
    """The generative half: z ~ prior, x | z ~ likelihood, in a plate ``data``.

    Sites: ``latent`` of event shape ``(latent_dim,)`` and ``obs``.

    Args:
        likelihood: p(x|z).
        prior: a Pyro distribution of event shape ``(latent_dim,)``, a module that returns one when
            called, or None for N(0, I).

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveNormal
        >>> from pyro_idvae.models import VAEModel
        >>> from pyro_idvae.transforms import brenier_injection
        >>> VAEModel(InjectiveNormal(brenier_injection(2, 5)))(torch.zeros(7, 5)).shape
        torch.Size([7, 2])
    """

    def __init__(self, likelihood: Likelihood, prior: Any = None) -> None:
        super().__init__()
        check_likelihood(likelihood)
        event_shape = getattr(prior, "event_shape", None)
        if prior is not None and event_shape is None and not isinstance(prior, nn.Module):
            raise ArgumentError(
                f"prior is a {type(prior).__name__}: expected a Pyro distribution, or a module "
                "that returns one"
            )
        self.likelihood = likelihood
        self.prior = prior
        if event_shape is not None and event_shape != (likelihood.latent_dim,):
            raise ShapeError(
                f"prior has event shape {tuple(event_shape)} but the likelihood has "
                f"latent_dim={likelihood.latent_dim}: declare dimensions with .to_event(1)"
            )

    def prior_distribution(self, like: Tensor) -> Any:
        """Return p(z), on the device and of the dtype of ``like`` if it is N(0, I)."""
        if self.prior is None:
            loc = like.new_zeros(self.likelihood.latent_dim)
            return dist.Normal(loc, torch.ones_like(loc)).to_event(1)
        return self.prior() if isinstance(self.prior, nn.Module) else self.prior

    @may_override
    def draw_latent(self, like: Tensor) -> Tensor:
        """Draw z at the site ``latent``; called in the plate of the rows."""
        z: Tensor = pyro.sample("latent", self.prior_distribution(like))
        return z

    def forward(
        self, x: Tensor, covariates: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Run the model on observations x, of shape ``(n,) + event_shape``; returns z.

        Args:
            x: observations.
            covariates: for a likelihood built with them, n rows.
            mask: True where an observation is present.
        """
        likelihood = self.likelihood
        options = likelihood.data_options(x, mask)
        like = x if x.is_floating_point() else next(likelihood.parameters())
        with pyro.plate("data", len(x)):
            z = self.draw_latent(like)
            conditional = likelihood.condition(z, covariates, **options)
            pyro.sample("obs", conditional, obs=likelihood.fill_missing(x, mask))
        return z

    def check_data(
        self, x: Tensor, covariates: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Raise a typed error unless the model can take these observations."""
        self.likelihood.check_data(x, mask)
        event = tuple(self.likelihood.event_shape)
        if x.dim() != 1 + len(event):
            remedy = "; for one row pass x.unsqueeze(0)" if x.shape == event else ""
            wanted = ", ".join(map(str, ("rows", *event)))
            raise ShapeError(f"x has shape {tuple(x.shape)}: expected ({wanted}){remedy}")
        if covariates is None:
            return
        if not bool(check_floating("covariates", covariates).isfinite().all()):
            raise DataError("covariates has entries that are not finite: clean them, or impute")


def check_likelihood(likelihood: Any) -> None:
    """Raise unless something is a likelihood."""
    if not isinstance(likelihood, Likelihood):
        raise ArgumentError(
            f"likelihood is a {type(likelihood).__name__}: pass an injective likelihood or a "
            "NeuralLikelihood"
        )


class VAEGuide(PyroModule):
    """The inference half: z ~ encoder(x), in the plate ``data``.

    Args:
        encoder: a module from standardised observations to a Pyro distribution of event shape
            ``(latent_dim,)``.
        prepare: the function of (x, mask) that standardises.
    """

    def __init__(
        self, encoder: nn.Module, prepare: Callable[[Tensor, Tensor | None], Tensor]
    ) -> None:
        super().__init__()
        check_callable("encoder", encoder, "a module from observations to a distribution of z")
        check_callable("prepare", prepare, "a function of (x, mask)")
        self.encoder = encoder
        self.prepare = prepare

    def posterior(
        self, x: Tensor, covariates: Tensor | None = None, mask: Tensor | None = None
    ) -> Any:
        """Return q(z|x)."""
        inputs = self.prepare(x, mask)
        if not inputs.is_floating_point():
            inputs = inputs.to(next(self.encoder.parameters()).dtype)
        return self.encoder(inputs) if covariates is None else self.encoder(inputs, covariates)

    def forward(
        self, x: Tensor, covariates: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Run the guide on observations x; returns z."""
        with pyro.plate("data", len(x)):
            return self.draw_latent(self.posterior(x, covariates, mask))

    @may_override
    def draw_latent(self, posterior: Any) -> Tensor:
        """Draw z at the site ``latent``; called in the plate of the rows."""
        z: Tensor = pyro.sample("latent", posterior)
        return z


class Standardize:
    """Observations → encoder inputs: missing entries filled, then what the family suggests."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return inputs of shape ``batch + (flat_dim,)``."""
        likelihood = self.likelihood
        filled = likelihood.fill_missing(x, mask)
        return likelihood.family.standardize(filled, likelihood.parameter_dim)


class VAE(nn.Module):
    """A likelihood and an encoder as a Pyro model/guide pair.

    Args:
        likelihood: p(x|z), injective or not.
        encoder: q(z|x): a module such as :class:`Encoder` that takes standardised observations.
        prior: as for :class:`VAEModel`.

    Attributes:
        model: a ``PyroModule`` with sites ``latent`` and ``obs`` in a plate ``data``.
        guide: a ``PyroModule`` with the site ``latent``.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NeuralLikelihood, make_family
        >>> from pyro_idvae.models import VAE, Encoder
        >>> decoder = NeuralLikelihood(make_family("bernoulli"), torch.nn.Linear(2, 5))
        >>> vae = VAE(decoder, Encoder(5, 2, hidden_dims=[16]))
        >>> vae.guide(torch.zeros(7, 5)).shape
        torch.Size([7, 2])
    """

    def __init__(self, likelihood: Likelihood, encoder: nn.Module, prior: Any = None) -> None:
        super().__init__()
        check_likelihood(likelihood)
        latent_dim = getattr(encoder, "latent_dim", likelihood.latent_dim)
        if latent_dim != likelihood.latent_dim:
            raise ShapeError(
                f"the encoder has latent_dim={latent_dim} but the likelihood has "
                f"latent_dim={likelihood.latent_dim}: they must be the same"
            )
        self.model = VAEModel(likelihood, prior)
        self.guide = VAEGuide(encoder, Standardize(likelihood))

    @property
    def likelihood(self) -> Likelihood:
        """The model's likelihood."""
        likelihood: Likelihood = self.model.likelihood
        return likelihood

    @property
    def encoder(self) -> nn.Module:
        """The guide's encoder."""
        encoder: nn.Module = self.guide.encoder
        return encoder
