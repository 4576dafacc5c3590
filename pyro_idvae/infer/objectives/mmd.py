# SPDX-License-Identifier: Apache-2.0
"""A discrepancy of all draws together from the prior, in place of the KL: InfoVAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run
from pyro_idvae.programs.sites import latent_sites


class MMD(Objective):
    r"""InfoVAE with the maximum mean discrepancy: the KL gives way to one of all draws together.

    .. math:: \mathcal L = -\mathbb E_q[\log p(x|z)] + (1-\alpha)\,\mathrm{KL}(q(z|x)\,\|\,p(z))
        + (\alpha+\lambda-1)\,\mathrm{MMD}^2(q(z)\,\|\,p(z))

    a data point. q(z) is the mixture of the guide over the rows, of which the KL asks nothing but
    that each of its components be the prior. With the kernel
    :math:`k(z, z') = e^{-|z-z'|^2/2h^2}` and draws :math:`z_i` of the guide, one a row, and
    :math:`y_i` of the prior,

    .. math:: \mathrm{MMD}^2 = \frac1{B(B-1)}\sum_{i\ne j}\bigl(k(z_i, z_j) + k(y_i, y_j)\bigr)
        - \frac2{B^2}\sum_{i,j}k(z_i, y_j),

    which is right in expectation for any batch, and may be negative.

    *Helps* to keep information about each row while draws of all rows together look like the prior.
    *Does not help* where the likelihood does not depend on z. For α close to 1 nothing keeps the
    guide's scales up: it becomes a point, and the model's evidence suffers. The loss is no −ELBO.

    Args:
        alpha: α, 0 for the ELBO's KL and 1 for none; the paper's weight of information.
        scale: λ; nats a data point for an MMD² of 1.
        bandwidth: h; the root of the number of coordinates by default.
        **options: arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import MMD
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> options = {"num_epochs": 2, "seed": 0, "progress": False}
        >>> fit = idvae.fit(vae.model, vae.guide, torch.randn(20, 5), objective=MMD(0.9), **options)
        >>> fit.num_epochs
        2

    Reference:
        Zhao, Song & Ermon, *InfoVAE: Balancing Learning and Inference in Variational
        Autoencoders*, AAAI 2019 (arXiv 1706.02262, 2017).
    """

    exempt: Mapping[str, str] = {
        "optimum": "the optimum of an MMD of finitely many draws has no closed form",
    }

    def __init__(
        self,
        alpha: float = 0.9,
        scale: float = 100.0,
        *,
        bandwidth: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.alpha = check_real("alpha", alpha, at_least=0.0)
        if alpha > 1:
            raise ArgumentError(f"alpha={alpha!r}: expected a number from 0 to 1")
        self.scale = check_real("scale", scale, at_least=0.0)
        if alpha + scale < 1:
            raise ArgumentError(
                f"alpha={alpha!r} with scale={scale!r}: the weight of the MMD is their sum less 1, "
                f"which is negative; raise scale to {1 - alpha:g} at least"
            )
        self.bandwidth = (
            None if bandwidth is None else check_real("bandwidth", bandwidth, above=0.0)
        )
        self.kl_weight = torch.tensor(1 - self.alpha, dtype=torch.double)
        self.mmd_weight = torch.tensor(self.alpha + self.scale - 1, dtype=torch.double)

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of a run."""
        loss = run.distortion + self.kl_weight * run.rate
        if float(self.mmd_weight) == 0.0:
            return loss
        return loss + self.mmd_weight * run.size * self._discrepancy(run)

    def _discrepancy(self, run: Run) -> Tensor:
        """Return MMD² of the draws of all latents in plates."""
        names = [site.name for site in run.local_kls]
        priors = self._prior_draws(run, names)
        total: Any = 0.0
        for name in names:
            site = run.guide_trace.nodes[name]
            dims = len(site["fn"].event_shape)
            draws, others = (
                value.reshape(value.shape[: value.dim() - dims].numel(), -1)
                for value in (site["value"], priors[name])
            )
            if len(draws) < 2:
                raise ArgumentError(
                    f"the site {name!r} has one row in this batch: MMD compares rows with each "
                    "other; pass a batch of two rows at least, and latents in a plate"
                )
            total = total + mmd(draws, others, self.bandwidth)
        return total  # type: ignore[no-any-return]

    def _prior_draws(self, run: Run, names: list[str]) -> dict[str, Tensor]:
        if len(latent_sites(run.model_trace)) == 1:
            fn = run.model_trace.nodes[names[0]]["fn"]
            return {names[0]: fn.rsample() if fn.has_rsample else fn.sample()}
        # Priors of some may depend on draws of others.
        args, kwargs = run.arguments
        trace = poutine.trace(run.model).get_trace(*args, **kwargs)
        nodes: Any = trace.nodes
        return {name: nodes[name]["value"] for name in names}


def mmd(draws: Tensor, others: Tensor, bandwidth: float | None = None) -> Tensor:
    """Return MMD² of two sets of draws, without bias.

    Args:
        draws: of shape ``(n, K)``.
        others: of shape ``(m, K)``.
        bandwidth: of the kernel; √K by default.

    Example:
        >>> import torch
        >>> from pyro_idvae.infer.objectives.mmd import mmd
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.randn(500, 2), torch.randn(500, 2)
        >>> bool(mmd(x, y).abs() < 0.01), bool(mmd(x, y + 1) > 0.1)
        (True, True)
    """
    square = 2 * (draws.shape[-1] if bandwidth is None else bandwidth**2)
    within = _mean_apart(draws, square) + _mean_apart(others, square)
    return within - 2 * _kernel(draws, others, square).mean()


def _kernel(one: Tensor, other: Tensor, square: float) -> Tensor:
    # Not by torch.cdist, whose gradient at 0 is that of a root.
    products = one @ other.mT
    distances = one.square().sum(-1, keepdim=True) + other.square().sum(-1) - 2 * products
    return torch.exp(-distances.clamp(min=0.0) / square)


def _mean_apart(draws: Tensor, square: float) -> Tensor:
    """Return the mean of the kernel over pairs of different rows."""
    kernel = _kernel(draws, draws, square)
    count = len(draws)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
