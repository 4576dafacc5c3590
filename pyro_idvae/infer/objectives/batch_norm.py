# SPDX-License-Identifier: Apache-2.0
"""Guides whose means are normalised over the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.normals import ReshapedGuide, normal_of, reshaped
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run, run_guide
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, evaluating, undisturbed
from pyro_idvae.programs.sites import latent_sites

SMALLEST_VARIANCE = 1e-5


class BatchNorm(Objective):
    r"""Batch normalisation of the guide's means: in every batch they have standard deviation γ.

    The ELBO, of a guide whose mean of coordinate j is

    .. math:: \gamma\,\frac{\mu_j(x_i) - \bar\mu_j}{s_j}, \qquad
        \frac1B\sum_i\mathrm{KL}(q(z_j|x_i)\,\|\,N(0, 1)) \ge \tfrac12\gamma^2,

    with the batch's means and standard deviations. The paper's learned shift is left out: the
    decoder's first bias does the same, and the KL is least at 0. Evaluations use running averages
    with momentum, as ``torch.nn.BatchNorm1d`` does.

    *Helps* to start: latents cannot have one mean for all data. *Does not help* where the
    likelihood does not depend on z: the means then tell the rows apart and the decoder does not
    listen. All latents are held at the same γ, whether the data need them or not. Judge by mutual
    information and log p(x), not by the KL. For guides of independent Normals in a plate. Evaluate
    and draw with :meth:`trained_guide`, which normalises by all training data.

    Args:
        gamma: γ.
        momentum: of the running averages.
        **options: arguments of :class:`Objective`.

    Attributes:
        running: (mean, variance) of the guide's means by site, over batches.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import BatchNorm
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(20, 5)
        >>> guide = BatchNorm(gamma=1.0).trained_guide(vae.model, vae.guide, x)
        >>> bool((idvae.kl_to_prior(vae.model, guide, x).mean(0) >= 0.5 - 1e-3).all())
        True

    Reference:
        Zhu, Bi, Liu, Ma, Li & Wu, *A Batch Normalized Inference Network Keeps the KL Vanishing
        Away*, ACL 2020.
    """

    exempt: Mapping[str, str] = {
        "neutral": "no γ leaves every guide as it is",
        "minibatch": "rows are normalised by the batch that they are in",
    }

    def __init__(self, gamma: float = 0.6, *, momentum: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.gamma = check_real("gamma", gamma, above=0.0)
        self.momentum = check_real("momentum", momentum, above=0.0, below=1.0)
        self.restart()

    def restart(self) -> None:
        """Forget all batches."""
        self.running: dict[str, tuple[Tensor, Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the running averages."""
        return {"running": self.running}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` returned."""
        self.running = {name: (mean, var) for name, (mean, var) in state["running"].items()}

    def runs(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Iterator[Run]:
        """Yield runs of the normalised guide."""
        change = self._by_batch if training else self._by_average
        normalised = reshaped(guide, change, type(self).__name__)
        yield from super().runs(model, normalised, arguments, training=training)

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the −ELBO."""
        return run.negative_elbo

    def trained_guide(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Program:
        """Return the guide normalised by all training data.

        Args:
            model: the model.
            guide: the guide that was passed to the objective.
            *args: the training data.
            **kwargs: the same, by name.

        Raises:
            ArgumentError: without data.
        """
        if not args and not kwargs:
            raise ArgumentError(
                "trained_guide needs the training data, over which means are normalised: pass them "
                "after the guide"
            )
        arguments, found = (args, kwargs), {}
        with torch.no_grad(), poutine.block(), undisturbed(arguments), evaluating(guide):
            trace = run_guide(guide, arguments)
        for name, site in latent_sites(trace).items():
            loc, _, dims = normal_of(name, site["fn"], type(self).__name__)
            found[name] = moments(name, loc, dims)
        return ReshapedGuide(guide, Normalised(self.gamma, found), type(self).__name__)

    def _by_batch(self, name: str, loc: Tensor, scale: Tensor, dims: int) -> tuple[Tensor, Tensor]:
        mean, variance = moments(name, loc, dims)
        new = mean.detach(), variance.detach()
        old = self.running.get(name, new)
        mixed = [a + self.momentum * (b - a) for a, b in zip(old, new, strict=True)]
        self.running[name] = mixed[0], mixed[1]
        return normalised(self.gamma, loc, mean, variance), scale

    def _by_average(
        self, name: str, loc: Tensor, scale: Tensor, dims: int
    ) -> tuple[Tensor, Tensor]:
        found = self.running[name] if name in self.running else moments(name, loc, dims)
        return normalised(self.gamma, loc, *found), scale


class Normalised:
    """Means that are normalised by given moments, scales that are left as they are.

    Args:
        gamma: standard deviation of what comes out.
        moments: mean and variance by site.
    """

    def __init__(self, gamma: float, moments: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self.gamma, self.moments = gamma, moments

    def __call__(self, name: str, loc: Tensor, scale: Tensor, dims: int) -> tuple[Tensor, Tensor]:
        """Return mean and scale."""
        return normalised(self.gamma, loc, *self.moments[name]), scale


def moments(name: str, loc: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of a site's means over the rows.

    Raises:
        ArgumentError: for fewer than two rows.
    """
    rows = list(range(loc.dim() - dims))
    if loc.shape[: len(rows)].numel() < 2:
        raise ArgumentError(
            f"the site {name!r} has one row in this batch: BatchNorm takes the deviation of rows; "
            "pass a batch of two rows at least, and latents in a plate"
        )
    return loc.mean(rows), loc.var(rows, correction=0)


def normalised(gamma: float, loc: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return means with this mean and variance shifted to 0 and stretched to deviation γ."""
    return gamma * (loc - mean) * (variance + SMALLEST_VARIANCE).rsqrt()
