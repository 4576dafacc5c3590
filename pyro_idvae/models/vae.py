# SPDX-License-Identifier: Apache-2.0
"""Variational autoencoders as a Pyro model/guide pair, identifiable or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae._checks import check_callable, check_count, check_floating
from pyro_idvae.distributions import (
    InjectiveLikelihood,
    Likelihood,
    make_family,
    make_injective,
)
from pyro_idvae.errors import ArgumentError, DataError, NotInjectiveError, ShapeError
from pyro_idvae.models.encoder import Encoder
from pyro_idvae.models.window import bounds_of_window
from pyro_idvae.transforms import brenier_injection


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
            z: Tensor = pyro.sample("latent", self.prior_distribution(like))
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
            z: Tensor = pyro.sample("latent", self.posterior(x, covariates, mask))
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


class IDVAE(VAE):
    """The identifiable VAE: an injective likelihood of Brenier maps, built from sizes.

    Args:
        data_dim: number of observed coordinates; of categories for ``categorical`` and
            ``multinomial``.
        latent_dim: K.
        family: name of the family, e.g. ``"bernoulli"``; see ``make_family``.
        hidden_dims: hidden widths of both potentials; see ``brenier_injection``.
        encoder_hidden_dims: hidden widths of the encoder.
        covariance: of the guide, ``"diagonal"`` or ``"full"``.
        prior: as for :class:`VAEModel`.
        covariates: a module that maps covariates to a shift of the parameters.
        covariate_dim: width of the covariates, which the encoder is given too.
        lipschitz_bounds: the wanted (L, M) of the injection.
        rate_window: the wanted nats (least, most) instead; for the ``normal`` family only.
        strong_convexity: floor of both Brenier maps, 1 by default.
        smoothness: ceiling of both Brenier maps.
        min_singular_value: floor of the linear map, 1 by default.
        **options: arguments of the family, e.g. ``total_count=16``.

    Raises:
        NotInjectiveError: if ``latent_dim`` is larger than the number of free parameters.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import IDVAE
        >>> vae = IDVAE(64, 16, "binomial", total_count=16, hidden_dims=[64])
        >>> vae.likelihood.lipschitz_bounds()[0] >= 1
        True
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        family: str = "bernoulli",
        *,
        hidden_dims: Sequence[int] | None = None,
        encoder_hidden_dims: Sequence[int] = (512, 512),
        covariance: str = "diagonal",
        prior: Any = None,
        covariates: nn.Module | None = None,
        covariate_dim: int = 0,
        lipschitz_bounds: tuple[float, float] | None = None,
        rate_window: tuple[float, float] | None = None,
        strong_convexity: float | None = None,
        smoothness: float | None = None,
        min_singular_value: float | None = None,
        **options: Any,
    ) -> None:
        if (covariates is None) != (covariate_dim == 0):
            raise ArgumentError(
                f"covariates={'None' if covariates is None else 'given'} with "
                f"covariate_dim={covariate_dim!r}: likelihood and encoder both take them, or "
                "neither; pass both"
            )
        template = make_family(family, **options)
        parameter_dim = template.parameter_dim(check_count("data_dim", data_dim))
        check_count("latent_dim", latent_dim)
        if latent_dim > parameter_dim:
            raise NotInjectiveError(
                f"latent_dim={latent_dim} is larger than the {parameter_dim} free parameters of a "
                f"{family} likelihood with data_dim={data_dim}: take a latent_dim of at most "
                f"{parameter_dim}"
            )
        if rate_window is not None:
            lipschitz_bounds = bounds_of_window(rate_window, latent_dim, family, lipschitz_bounds)
        injection = brenier_injection(
            latent_dim,
            parameter_dim,
            hidden_dims,
            lipschitz_bounds=lipschitz_bounds,
            strong_convexity=strong_convexity,
            smoothness=smoothness,
            min_singular_value=min_singular_value,
        )
        likelihood: InjectiveLikelihood = make_injective(
            family, injection, covariates=covariates, **options
        )
        encoder = Encoder(
            template.flat_dim(parameter_dim),
            latent_dim,
            encoder_hidden_dims,
            covariance=covariance,
            covariate_dim=covariate_dim,
        )
        super().__init__(likelihood, encoder, prior)
