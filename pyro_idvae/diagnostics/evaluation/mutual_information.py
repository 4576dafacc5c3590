# SPDX-License-Identifier: Apache-2.0
"""Information about a data point in a guide's draws, on the full mixture, with its cap."""

from __future__ import annotations

import math

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_idvae.diagnostics.evaluation.row_normals import RowNormals, row_normals
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.guide_density import check_spread
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import FAILURES, TYPED
from pyro_idvae.programs.side_by_side import guide_draws, nth
from pyro_idvae.programs.sites import latent_sites

PAIRS_AT_ONCE = 2**22
"""Densities held at once: 32 MB of them."""


def mutual_information(
    bound: BoundModel, num_samples: int, *, progress: bool = False
) -> RowEstimate:
    r"""Estimate the information that a guide's draws carry about which row they are of, in nats.

    .. math:: I_q = \frac1N\sum_i\mathbb E_{q(z|x_i)}\Bigl[\log q(z|x_i)
        - \log\frac1N\sum_j q(z|x_j)\Bigr] \le \log N

    The mixture is that of all N rows: one of a minibatch would saturate at the logarithm of the
    batch. As it holds the row's own density, no term exceeds log N, whatever is drawn. It is the
    information of these N rows, and grows with their number: close to the cap it says that rows are
    told apart, and not how well.

    For a guide whose sites are Normals all pairs of draws and rows are a product of matrices; any
    other is run on all rows ``num_samples * N`` times.

    Args:
        bound: model and guide on their data.
        num_samples: draws of each row.
        progress: show a progress bar.

    Returns:
        The term of each row i, whose mean is :math:`I_q`.

    Raises:
        ArgumentError: for a guide that is a point.
        NoCertificateError: for a guide without a density of its own in each row, or one that cannot
            be evaluated at other rows' draws.

    Reference:
        Hoffman & Johnson, *ELBO surgery*, NIPS workshop on approximate inference, 2016; He,
        Spokoyny, Neubig & Berg-Kirkpatrick, *Lagging Inference Networks and Posterior Collapse in
        Variational Autoencoders*, ICLR 2019.
    """
    check_spread(bound)
    normals = row_normals(bound)
    with tqdm(
        total=num_samples * bound.rows, desc="mutual information", disable=not progress
    ) as bar:
        if normals is not None:
            terms = _of_normals(normals, bound.rows, num_samples, bar)
        else:
            terms = _of_runs(bound, num_samples, bar)
    found = terms.cpu().numpy()
    return RowEstimate(found.mean(0), found.std(0, ddof=1) / math.sqrt(num_samples))


def _of_normals(normals: list[RowNormals], rows: int, count: int, bar: tqdm) -> Tensor:
    """Return log q(z|x_i) less the mixture's, at draws of each row, of ``(draws, rows)``."""
    draws = [part.sample(count).flatten(0, 1) for part in normals]
    step, parts = max(1, PAIRS_AT_ONCE // rows), []
    own = torch.arange(rows, device=draws[0].device).repeat(count)
    for first in range(0, count * rows, step):
        chosen = slice(first, first + step)
        pairs = torch.stack(
            [part.log_prob(z[chosen]) for part, z in zip(normals, draws, strict=True)]
        ).sum(0)
        mine = pairs.gather(1, own[chosen].unsqueeze(-1)).squeeze(-1)
        parts.append(mine - (pairs.logsumexp(-1) - math.log(rows)))
        bar.update(len(mine))
    return torch.cat(parts).reshape(count, rows)


@torch.no_grad()
def _of_runs(bound: BoundModel, count: int, bar: tqdm) -> Tensor:
    """Return the same by runs of the guide, in which each row is given another row's draws."""
    _check_rows(bound)
    values, log_q = guide_draws(bound, count)
    if log_q.dim() < 2:
        raise _no_density()
    own, mixture = log_q.double(), torch.full_like(log_q.double(), -torch.inf)
    for shift in range(bound.rows):
        moved = {n: v.roll(shift, 1 + (bound.row_place(n) or 0)) for n, v in values.items()}
        density = _densities(bound, moved, count).double()
        if shift == 0 and not is_same(log_q, density.to(log_q)):
            raise NoCertificateError(
                "the guide's density at its own draws differs from run to run: it depends on noise "
                "that is no sample site"
            )
        if bool(density.isnan().any()):
            raise NoCertificateError("the guide's density is NaN at other rows' draws")
        # The draws of row i stood in row i + shift.
        mixture = torch.logaddexp(mixture, density.roll(-shift, 1))
        bar.update(count)
    return own - (mixture - math.log(bound.rows))


def _densities(bound: BoundModel, draws: Values, count: int) -> Tensor:
    """Return log q of draws, of shape ``(draws, rows)``."""
    found = []
    try:
        with bound.running(), pyro.validation_enabled(False):
            for index in range(count):
                density = bound.guide_density(nth(draws, index))
                if density is None or not density.dim():
                    raise _no_density()
                found.append(density)
    except TYPED:
        raise
    except FAILURES as error:
        raise NoCertificateError(
            "the guide's density cannot be evaluated at other rows' draws: "
            f"{type(error).__name__}: {error}"
        ) from error
    return torch.stack(found)


def _check_rows(bound: BoundModel) -> None:
    """Raise for a guide that has no density of the latents alone, row by row."""
    sites = latent_sites(bound.guide_trace)
    local = all(bound.frame_dim(site) is not None for site in sites.values())
    if not local or set(sites) != set(bound.latents):
        raise _no_density()


def _no_density() -> NoCertificateError:
    return NoCertificateError(
        "the guide has no density of the latents row by row: it draws some for all rows at once, "
        "or from helpers of its own"
    )
