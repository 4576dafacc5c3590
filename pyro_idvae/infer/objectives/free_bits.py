# SPDX-License-Identifier: Apache-2.0
"""A KL that costs nothing up to a floor: free bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import SiteKL
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run

GROUPS = ("batch", "row")


class FreeBits(Objective):
    r"""Free bits: the KL of each latent dimension costs nothing below λ nats.

    .. math:: \mathcal L = -\mathbb E_q[\log p(x|z)]
        + \sum_j\max\Bigl(\lambda, \frac1B\sum_i\mathrm{KL}(q(z_j|x_i)\,\|\,p(z_j))\Bigr)

    a data point, or with the maximum in each row i, :math:`\frac1B\sum_i\max(\lambda, \cdot)`. A
    site whose guide or prior has no independent coordinates is one group. Of a linear Normal model
    each direction of the data of variance v has KL :math:`\max(\lambda, \frac12\log(v/\sigma^2))`
    at the optimum.

    *Helps* to get latents going, and keeps KLs at λ or above if the likelihood gains anything by
    them. *Does not help* where it gains nothing: the gradient of the KL is then 0 and nothing comes
    in its place. Below λ the loss does not hold the guide to the prior, so draws of the prior may
    lie where no data are. The loss is no −ELBO.

    Args:
        nats: λ, nats a latent dimension and data point.
        groups: ``"batch"``, the mean over the batch, as in the paper, or ``"row"``.
        **options: arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import FreeBits
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x, options = torch.randn(20, 5), {"num_epochs": 2, "seed": 0, "progress": False}
        >>> fit = idvae.fit(vae.model, vae.guide, x, objective=FreeBits(nats=0.5), **options)
        >>> fit.losses[-1] > 2 * 0.5  # two dimensions, at half a nat at least
        True

    Reference:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling, *Improved Variational Inference
        with Inverse Autoregressive Flow*, NeurIPS 2016, appendix C.8.
    """

    exempt: Mapping[str, str] = {
        "minibatch": "the maximum of a batch's mean is above that of all data's mean; groups='row' "
        "obeys",
    }

    def __init__(self, nats: float = 0.25, *, groups: str = "batch", **options: Any) -> None:
        super().__init__(**options)
        if groups not in GROUPS:
            raise ArgumentError(f"groups={groups!r}: expected one of {GROUPS}")
        self.groups = groups
        if groups == "row":
            self.exempt = {}
        self.nats = torch.tensor(check_real("nats", nats, at_least=0.0), dtype=torch.double)

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of a run."""
        if not isinstance(run.helpers, int):
            raise ArgumentError(
                "the guide draws all its latents at once, as AutoMultivariateNormal does: their "
                "KLs cannot be told apart, as FreeBits must; use TargetRate, or a guide that draws "
                "each site"
            )
        total: Any = sum(self._floored(site) for site in run.site_kls)
        return total - run.log_likelihood  # type: ignore[no-any-return]

    def _floored(self, site: SiteKL) -> Tensor:
        if self.groups == "row":
            return site.replaced(torch.maximum(site.value, self.nats.to(site.value))).total()
        found = site.by_coordinate()
        return torch.maximum(found, (self.nats * site.count()).to(found)).sum()
