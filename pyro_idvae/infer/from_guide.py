# SPDX-License-Identifier: Apache-2.0
"""Draws of a guide as ArviZ data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pyro_idvae.infer.arviz import check_counts, finished
from pyro_idvae.infer.guide_sampling import GuideSampling
from pyro_idvae.infer.names import Names
from pyro_idvae.infer.store import Order, checked_folder, stored
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.door import open_pair
from pyro_idvae.programs.run import Program


@left_as_found
def from_guide(
    model: Program,
    guide: Program,
    data: Any,
    *,
    num_samples: int = 500,
    num_prior_samples: int | None = None,
    posterior_predictive: bool = False,
    block_size: int | None = None,
    store: str | os.PathLike[str] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Any:
    """Draw from a guide and return ArviZ data.

    Draws are independent: there is one chain, and R-hat has no meaning. Groups: ``posterior``,
    ``prior``; ``log_likelihood`` and ``log_prior`` at posterior draws, per data point, by site;
    ``sample_stats`` with ``log_q``, the guide's log density (per data point if the guide
    factorises over the data plate) and ``prior_score_<site>``, the latent on the scale on which its
    prior is N(0, 1), for priors with known marginals, and ``limit_mean_<site>`` (also ``variance``
    and ``size``), KL(q ‖ p) of each coordinate by the guide's own density; ``sample_stats_prior``
    with
    ``log_likelihood_<site>`` at prior draws; ``observed_data``; and ``posterior_predictive`` on
    request. Densities are in nats.

    Args:
        model: the model, any callable.
        guide: the guide, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments.
        num_samples: draws from the guide.
        num_prior_samples: draws from the prior; ``num_samples`` by default.
        posterior_predictive: whether to draw new observations.
        block_size: rows at a time, to save memory; None for all, or for what suits a store. Needs
            an amortised guide, and rows that have nothing to do with one another. Blocks have
            random numbers of their own; processes that ``torchrun`` started share them.
        store: a folder to write the draws to, block by block, as for :func:`mcmc`; what comes back
            is :func:`open_draws` of it.
        coords: labels by dimension, e.g. ``{"cell": barcodes, "gene": symbols}``. A single key that
            is no other dimension and has a label for each row is what the rows are called.
        dims: names of dimensions by site, e.g. ``{"obs": ["gene"], "latent": ["factor"]}``: of all,
            the rows' included, or of all but that. Others are called ``data`` and
            ``<site>_dim_0``, …
        seed: seed of torch's random numbers; None to draw from torch's generator as it is.
        progress: show a progress bar of what is written to a store.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        SiteMismatchError: if the guide's sites are not the model's.
        ArgumentError: for a discrete latent that rows share and the guide does not sample; for
            sites, dimensions or labels in ``coords`` or ``dims`` that are not there; for rows that
            cannot be drawn apart, with ``block_size`` or ``store``.
        StoreError: for a store that cannot be written, or is of another call.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=10)
        >>> draws["posterior"]["latent"].shape
        (1, 10, 3, 2)
    """
    sampling = GuideSampling(num_samples, block_size=block_size, seed=seed, progress=progress)
    check_counts(num_prior_samples)
    folder = None if store is None else checked_folder(store)
    bound = open_pair(model, guide, as_arguments(data))
    names = Names.of(bound, coords, dims)
    num_prior_samples = num_prior_samples or num_samples
    if folder is not None:
        order = Order(bound, sampling, names, num_prior_samples, None, posterior_predictive)
        return stored(folder, order)
    shares, draws = sampling.draws(bound)
    return finished(
        shares,
        draws,
        names,
        method=sampling.kernel,
        independent=True,
        num_prior_samples=num_prior_samples,
        num_limit_draws=None,
        posterior_predictive=posterior_predictive,
    )
