# SPDX-License-Identifier: Apache-2.0
"""Mixture variational autoencoders as a Pyro model/guide pair, identifiable or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
from torch import Tensor, nn

from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import ShapeError
from pyro_idvae.models.mixture_encoder import MixturePosterior
from pyro_idvae.models.mixture_prior import MixturePrior
from pyro_idvae.models.vae import Standardize, VAEGuide, VAEModel, check_likelihood

ENUMERATE: Any = {"enumerate": "parallel"}


class MixtureVAEModel(VAEModel):
    """The generative half: y ~ prior, z | y ~ Normal, x | z ~ likelihood, in a plate ``data``.

    Sites: ``component``, to be enumerated; ``latent`` of event shape ``(latent_dim,)`` and ``obs``.

    Args:
        likelihood: p(x|z).
        prior: of components and latents.
    """

    prior: MixturePrior

    def __init__(self, likelihood: Likelihood, prior: MixturePrior) -> None:
        super().__init__(likelihood, prior)

    def draw_latent(self, like: Tensor) -> Tensor:
        """Draw y at the site ``component``, and z given it."""
        component = pyro.sample("component", self.prior.component(), infer=ENUMERATE)
        z: Tensor = pyro.sample("latent", self.prior.given(component))
        return z


class MixtureVAEGuide(VAEGuide):
    """The inference half: y ~ q(y|x), z ~ q(z|x, y), in the plate ``data``.

    Args:
        encoder: a module from standardised observations to a :class:`MixturePosterior`.
        prepare: the function of (x, mask) that standardises.
        marginal: whether the components are summed out and z alone is drawn, from the mixture
            q(z|x): for whatever takes guides of continuous latents, on a model whose components are
            summed out too.
    """

    def __init__(
        self,
        encoder: nn.Module,
        prepare: Callable[[Tensor, Tensor | None], Tensor],
        *,
        marginal: bool = False,
    ) -> None:
        super().__init__(encoder, prepare)
        self.marginal = marginal

    def draw_latent(self, posterior: MixturePosterior) -> Tensor:
        """Draw y at the site ``component`` and z given it, or z alone."""
        if self.marginal:
            conditional = posterior.marginal()
        else:
            component = pyro.sample("component", posterior.component(), infer=ENUMERATE)
            conditional = posterior.given(component)
        z: Tensor = pyro.sample("latent", conditional)
        return z


class MixtureVAE(nn.Module):
    """A likelihood, a mixture as prior and an encoder as a Pyro model/guide pair.

    Train by ``fit(vae.model, vae.guide, x, elbo=TraceEnum_ELBO(max_plate_nesting=1))``. Samplers,
    reports and evidence sum the components of ``model`` out; beside them ``marginal_guide`` stands
    for the guide, with the same parameters.

    Args:
        likelihood: p(x|z), injective or not.
        encoder: q(y|x) and q(z|x, y): a module such as :class:`MixtureEncoder` that takes
            standardised observations.
        num_components: C.
        **prior: arguments of :class:`MixturePrior`.

    Attributes:
        model: a ``PyroModule`` with sites ``component``, ``latent`` and ``obs`` in a plate
            ``data``.
        guide: a ``PyroModule`` with the sites ``component`` and ``latent``.
        marginal_guide: one with the site ``latent`` alone.

    Raises:
        ShapeError: for an encoder of other latents or components.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NeuralLikelihood, make_family
        >>> from pyro_idvae.models import MixtureEncoder, MixtureVAE
        >>> decoder = NeuralLikelihood(make_family("normal"), torch.nn.Linear(2, 5))
        >>> vae = MixtureVAE(decoder, MixtureEncoder(5, 2, 3, hidden_dims=[16]), 3)
        >>> vae.guide(torch.zeros(7, 5)).shape
        torch.Size([7, 2])
    """

    def __init__(
        self, likelihood: Likelihood, encoder: nn.Module, num_components: int, **prior: Any
    ) -> None:
        super().__init__()
        check_likelihood(likelihood)
        own = MixturePrior(num_components, likelihood.latent_dim, **prior)
        for name in ("latent_dim", "num_components"):
            wanted, found = getattr(own, name), getattr(encoder, name, getattr(own, name))
            if found != wanted:
                raise ShapeError(f"the encoder has {name}={found}: expected {wanted}")
        self.model = MixtureVAEModel(likelihood, own)
        prepare = Standardize(likelihood)
        self.guide = MixtureVAEGuide(encoder, prepare)
        self.marginal_guide = MixtureVAEGuide(encoder, prepare, marginal=True)

    @property
    def likelihood(self) -> Likelihood:
        """The model's likelihood."""
        likelihood: Likelihood = self.model.likelihood
        return likelihood

    @property
    def prior(self) -> MixturePrior:
        """The model's prior."""
        return self.model.prior

    @property
    def encoder(self) -> nn.Module:
        """The guide's encoder."""
        encoder: nn.Module = self.guide.encoder
        return encoder
