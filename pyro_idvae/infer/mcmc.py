# SPDX-License-Identifier: Apache-2.0
"""The exact posterior of the latents, by Pyro's own kernels or for all rows side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pyro_idvae.infer.arviz import check_counts, finished
from pyro_idvae.infer.draws import Draws, evaluated, shape_of
from pyro_idvae.infer.interrupts import Steps, warn_caller
from pyro_idvae.infer.laplace.autoguide import AutoInjectiveLaplace
from pyro_idvae.infer.names import Names
from pyro_idvae.infer.ranks import Ranks
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.infer.store import Order, checked_folder, stored
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.door import open_model
from pyro_idvae.programs.run import Program, gradients


@left_as_found
@gradients()
def mcmc(
    model: Program,
    data: Any,
    *,
    kernel: str = "nuts",
    num_samples: int = 500,
    warmup_steps: int | None = None,
    num_chains: int = 4,
    target_accept_prob: float | None = None,
    jit_compile: bool = False,
    parallel: bool = False,
    start: AutoInjectiveLaplace | None = None,
    kernel_options: Mapping[str, Any] | None = None,
    block_size: int | None = None,
    store: str | os.PathLike[str] | None = None,
    num_prior_samples: int | None = None,
    num_limit_draws: int | None = None,
    posterior_predictive: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Any:
    """Sample the exact posterior of a model's latents, its parameters as they are now.

    ``"nuts"`` and ``"hmc"`` are Pyro's: one state holds the latents of all rows, so give a few
    rows. ``"vectorized"`` is :class:`VectorizedHMC`: every row has its own chains, step size and
    metric, all side by side, for thousands of rows; the model's log joint must factorise over its
    data plate, which is checked.

    For a fully Bayesian posterior, over the parameters too, give them priors:
    :class:`BayesianModel`.

    Ctrl-C ends the sampling: the draws so far come back, with a warning that says how many, and
    ``attrs["complete"]`` is 0. Chains are cut to one length, the one that keeps most draws; log
    densities and prior draws are still computed, the limits of the marginals are not. During
    warm-up there is nothing to return, and ``KeyboardInterrupt`` is raised, as at a second Ctrl-C.

    Groups as in :func:`from_guide`, with ``sample_stats`` ``diverging``, ``energy``,
    ``acceptance_rate`` and ``step_size``. For ``"vectorized"`` the latter two are of each row's
    chains, ``row_diverging`` and ``row_energy`` as well; ``energy`` is then the sum over rows, and
    ``diverging`` tells of a divergence in any of them.

    Args:
        model: the model, any callable. Discrete latents are summed out, row by row, if their values
            can be listed.
        data: a Tensor, or a tuple or dict of the model's arguments.
        kernel: ``"nuts"``, ``"hmc"`` or ``"vectorized"``.
        num_samples: draws a chain.
        warmup_steps: steps a chain that adapt and are thrown away; 500, or 200 for
            ``"vectorized"``, by default.
        num_chains: chains.
        target_accept_prob: acceptance the step size is adapted to; 0.8, or 0.88 for
            ``"vectorized"``, by default.
        jit_compile: trace Pyro's model by ``torch.jit``, or compile the vectorised trajectories by
            ``torch.compile``: slow to begin, fast to run.
        parallel: run the chains of Pyro's kernels in processes of their own. A model that cannot be
            sent there is sampled chain by chain, with a warning. A script needs the guard
            ``if __name__ == "__main__":``. Those that ``torchrun`` started share chains anyway.
        start: begin Pyro's chains at draws of this guide and in its metric; the vectorised kernel
            does so by itself.
        kernel_options: further arguments of Pyro's kernel, e.g. ``{"max_tree_depth": 6}``.
        block_size: data points that ``"vectorized"`` evaluates at once; by default what stays in a
            processor's cache, or fills a GPU. With a seed, the draws of a block depend on its
            number and its data points alone.
        store: a folder to write the draws to: of ``"vectorized"`` block by block, for more than
            memory holds, of Pyro's kernels some draws at a time. A run that was ended goes on where
            it was when the same call is made again, with the same draws; with more processes or
            fewer, too, which share the blocks or the chains. What comes back is :func:`open_draws`
            of it. Needs the extra ``store``, Zarr.
        num_prior_samples: draws from the prior; ``num_samples`` by default.
        num_limit_draws: draws to bound by what each latent's marginal knows, as for
            :func:`from_mcmc`; 0 for none.
        posterior_predictive: whether to draw new observations.
        coords: labels by dimension, as for :func:`from_guide`.
        dims: names of dimensions by site, as for :func:`from_guide`.
        seed: seed of torch's random numbers.
        progress: show a progress bar.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        DataError: for data that are empty or not finite.
        ArgumentError: for an argument out of range, a model with nothing to sample or with latents
            whose values cannot be listed, or rows that are not independent for ``"vectorized"``.
        StoreError: for a store that cannot be written, or is of another call.
        KeyboardInterrupt: at Ctrl-C before the first draw.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.mcmc(
        ...     vae.model, torch.randn(2, 5), num_samples=5, warmup_steps=10, progress=False
        ... )
        >>> draws["posterior"]["latent"].shape
        (4, 5, 2, 2)
        >>> many = idvae.mcmc(
        ...     vae.model, torch.randn(500, 5), kernel="vectorized", num_samples=5, progress=False
        ... )
        >>> many["posterior"]["latent"].shape
        (4, 5, 500, 2)
    """
    sampling = Sampling(
        kernel=kernel,
        num_samples=num_samples,
        warmup_steps=warmup_steps,
        num_chains=num_chains,
        target_accept_prob=target_accept_prob,
        jit_compile=jit_compile,
        parallel=parallel,
        start=start,
        kernel_options=kernel_options or {},
        block_size=block_size,
        seed=seed,
        progress=progress,
    )
    check_counts(num_prior_samples, num_limit_draws)
    folder = None if store is None else checked_folder(store, parallel=parallel)
    bound = open_model(model, as_arguments(data))
    names = Names.of(bound, coords, dims)
    if folder is not None:
        order = Order(
            bound,
            sampling,
            names,
            num_prior_samples or num_samples,
            num_limit_draws,
            posterior_predictive,
        )
        return stored(folder, order)
    shares, parts = sampling.sample_parts(bound)
    shape = shape_of(parts[0][0]) if parts else sampling.shape
    complete = shape == sampling.shape
    steps = Steps(model, interrupted=None if Ranks.here().size > 1 else not complete)
    draws = steps.needed(lambda: shares.here(partial(_evaluated, kernel), parts))
    data = finished(
        shares,
        draws,
        names,
        method=kernel,
        complete=complete,
        num_prior_samples=num_prior_samples or shape[1],
        num_limit_draws=num_limit_draws,
        posterior_predictive=posterior_predictive,
        steps=steps,
    )
    if steps.interrupted:
        _warn(sampling, shape, steps.left_out)
    return data


def _evaluated(kernel: str, bound: BoundModel, part: tuple[Values, Values]) -> Draws:
    return evaluated(bound, *part, independent=False, method=kernel)


def _warn(sampling: Sampling, shape: tuple[int, int], left_out: Sequence[str]) -> None:
    """Say what an interrupt has left."""
    chains, each = shape
    words = f"interrupted: {chains} of {sampling.num_chains} chains, "
    words += f"{each} of {sampling.num_samples} draws"
    if left_out:
        words += f", without {' and '.join(left_out)}"
    warn_caller(words)
