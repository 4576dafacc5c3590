# SPDX-License-Identifier: Apache-2.0
"""The KL at a fixed weight: the β-VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_idvae._checks import check_real
from pyro_idvae.infer.objectives.weighted import Weighted


class Beta(Weighted):
    r"""The β-VAE: the KL at a fixed weight.

    .. math:: \mathcal L = -\mathbb E_q[\log p(x|z)] + \beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))

    Of a linear Normal model with noise variance σ² the directions of the data with a variance above
    βσ² stay, each with posterior variance βσ² over it; all others collapse.

    *Helps* where the likelihood's noise is off: β is a noise variance in disguise. β < 1 keeps
    latents; β > 1, as in the paper, makes them fewer and more independent. *Does not help* where
    the likelihood does not depend on z. For β ≠ 1 the loss is no −ELBO: for β < 1 it is below the
    −ELBO of the same model, and must not be reported as a likelihood.

    Args:
        beta: weight of the KL, 0 or more.
        elbo: a Pyro ELBO; ``Trace_ELBO()`` by default.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import Beta
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x, options = torch.randn(20, 5), {"num_epochs": 2, "seed": 0, "progress": False}
        >>> fit = idvae.fit(vae.model, vae.guide, x, objective=Beta(0.5), **options)
        >>> fit.num_epochs
        2

    Reference:
        Higgins et al., *beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
        Framework*, ICLR 2017; Lucas, Tucker, Grosse & Norouzi, *Don't Blame the ELBO! A Linear VAE
        Perspective on Posterior Collapse*, NeurIPS 2019.
    """

    exempt: Mapping[str, str] = {}

    def __init__(self, beta: float = 0.5, *, elbo: Any = None) -> None:
        self.beta = check_real("beta", beta, at_least=0.0)
        super().__init__(elbo)

    def training_weight(self) -> float:
        """Return β."""
        return self.beta

    def evaluation_weight(self) -> float:
        """Return β."""
        return self.beta
