# SPDX-License-Identifier: Apache-2.0
"""The baseline: the same families on any network, not identifiable."""

from __future__ import annotations

from torch import Tensor, nn

from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.likelihood import Likelihood
from pyro_idvae.errors import ArgumentError, NoCertificateError


class NeuralLikelihood(Likelihood):
    """The same families on any network, as a baseline: **not identifiable**.

    Nothing keeps the network from ignoring z or folding it, so the posterior may collapse even
    with exact inference.

    Args:
        family: a :class:`Family`, e.g. from :func:`make_family`.
        network: a module from ``batch + (latent_dim,)`` to ``batch + (parameter_dim,)``.
        latent_dim: K; read off the first ``nn.Linear`` if not given.
        parameter_dim: width of η; read off the last ``nn.Linear`` if not given.
        covariates: a module that maps covariates to a shift of η.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NeuralLikelihood, make_family
        >>> likelihood = NeuralLikelihood(make_family("bernoulli"), torch.nn.Linear(2, 5))
        >>> likelihood.condition(torch.zeros(3, 2)).sample().shape, likelihood.identifiable
        (torch.Size([3, 5]), False)
    """

    def __init__(
        self,
        family: Family,
        network: nn.Module,
        *,
        latent_dim: int | None = None,
        parameter_dim: int | None = None,
        covariates: nn.Module | None = None,
    ) -> None:
        if not isinstance(network, nn.Module):
            raise ArgumentError(
                f"network is a {type(network).__name__}: expected a module, e.g. nn.Linear(2, 5)"
            )
        layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
        if not layers and (latent_dim is None or parameter_dim is None):
            raise ArgumentError(
                "network has no nn.Linear to read its sizes off: pass latent_dim and parameter_dim"
            )
        super().__init__(
            family,
            layers[0].in_features if latent_dim is None else latent_dim,
            layers[-1].out_features if parameter_dim is None else parameter_dim,
            covariates,
        )
        self.network = network

    def extra_repr(self) -> str:
        """Say what this is not."""
        return "not identifiable"

    def eta(self, z: Tensor) -> Tensor:
        """Return the network's output."""
        return self.network(z).to(z.dtype)  # type: ignore[no-any-return]

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Refuse: an arbitrary network has no bounds to promise."""
        raise NoCertificateError(
            "a NeuralLikelihood is not identifiable: nothing bounds its network from below; use "
            "an injective likelihood"
        )

    def information_bounds(self) -> tuple[float, float]:
        """Refuse, for the same reason."""
        return self.lipschitz_bounds()
