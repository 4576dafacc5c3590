# SPDX-License-Identifier: Apache-2.0
"""log p(x) by annealed importance sampling."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_real, check_seed
from pyro_idvae.diagnostics.evidence.annealed import anneal
from pyro_idvae.diagnostics.evidence.elbo import row_elbo
from pyro_idvae.diagnostics.evidence.estimate import Evidence
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.annealing.annealer import Annealer
from pyro_idvae.infer.rowwise.annealing.sources import source_of
from pyro_idvae.infer.samples import check_latents
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.door import open_model, open_pair
from pyro_idvae.programs.guide_density import check_spread
from pyro_idvae.programs.run import Program, gradients

PROPOSALS = ("laplace", "guide", "prior")
BOUNDS = ("lower", "both")
LEAST_CHAINS = 4
"""Fewer particles tell no spread, and so no schedule."""


@left_as_found
@gradients()
def log_evidence(
    model: Program,
    guide: Program | None,
    data: Any,
    *,
    proposal: str = "laplace",
    num_chains: int = 16,
    num_temperatures: int | None = None,
    conditional_ess: float = 0.99,
    num_leapfrog_steps: int = 4,
    bounds: str = "lower",
    latents: Mapping[str, Tensor] | None = None,
    num_posterior_draws: int = 10,
    num_elbo_samples: int = 100,
    block_size: int | None = None,
    jit_compile: bool = False,
    seed: int | None = None,
    progress: bool = False,
) -> Evidence:
    r"""Bound log p(x) of each data point by annealed importance sampling.

    Particles go from a proposal q to the posterior through :math:`\pi_t \propto q^{1-t} p^t`, by
    Hamiltonian trajectories that leave each of these invariant, and

    .. math:: \log w = \sum_k (t_k - t_{k-1}) \log\frac{p(x, z_{k-1})}{q(z_{k-1})},\qquad
        \mathbb E\,w = p(x)

    so that the log of the mean weight is below log p(x) in expectation. Temperatures, step sizes
    and metrics come from a pilot on other particles and are then frozen: adapted to the particles
    that are weighed, they would bias w upwards. All rows and particles go side by side.

    With ``bounds="both"`` the same kernels are run backwards from draws of the posterior:
    :math:`\mathbb E\,1/w = 1/p(x)`, so −log of the mean of 1/w is above log p(x) in expectation.
    That holds for exact draws: the latents that data were simulated with (``latents``). Without
    these the particles that went forwards are drawn again by their weights and moved on at the
    posterior; the bound is then an estimate, as good as they are.

    Parameters are as they are now, and log p(x) is given them. Discrete latents are summed out. For
    data with masks it is log p of what is observed.

    Args:
        model: a model whose log joint factorises over its data plate, which is checked.
        guide: its guide, or None. Its ELBO is set beside log p(x).
        data: a Tensor, or a tuple or dict of the model's arguments.
        proposal: where particles begin: ``"laplace"``, at the mode of each row with the curvature
            there, in closed form for injective likelihoods and searched for others; ``"guide"``,
            the guide or, for one whose density cannot be had row by row, Normals of its moments;
            ``"prior"``, the slow one that reaches all modes.
        num_chains: particles of each data point.
        num_temperatures: steps on the way; as many as ``conditional_ess`` takes if None.
        conditional_ess: conditional effective sample size, of 1, from a temperature to the next.
        num_leapfrog_steps: of each trajectory.
        bounds: ``"lower"``, or ``"both"`` at twice the price.
        latents: the latents that simulated data were made with, by site.
        num_posterior_draws: trajectories at the posterior, for the mean of log p(x|z).
        num_elbo_samples: draws of the guide for its ELBO.
        block_size: data points evaluated at once; by default what stays in a processor's cache.
            With a seed, what is found of a block depends on its number and its data points alone.
        jit_compile: compile the trajectories by ``torch.compile``, for long runs.
        seed: seed of torch's random numbers.
        progress: show a progress bar.

    Returns:
        An :class:`Evidence`. Ctrl-C returns the rows that are done, the others NaN, with a warning.

    Raises:
        ArgumentError: for an argument out of range, a model that does not factorise over its data
            plate, or a guide that is a point.
        DataError: for data that are empty or not finite.
        KeyboardInterrupt: at Ctrl-C before the first rows are done.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> z = torch.randn(20, 2)
        >>> x = vae.likelihood.condition(z).sample()
        >>> found = idvae.log_evidence(
        ...     vae.model, vae.guide, x, bounds="both", latents={"latent": z}, seed=0
        ... )
        >>> found.lower.shape
        (20,)
        >>> bool(abs(found.upper_mean - found.mean) < 0.1)
        True

    Reference:
        Neal, *Annealed Importance Sampling*, Statistics and Computing 2001; Grosse, Ghahramani &
        Adams, *Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo*, 2015; Wu et
        al., *On the Quantitative Analysis of Decoder-Based Generative Models*, ICLR 2017.
    """
    for name, value, known in (("proposal", proposal, PROPOSALS), ("bounds", bounds, BOUNDS)):
        if value not in known:
            raise ArgumentError(f"{name}={value!r}: expected one of {', '.join(known)}")
    check_count("num_chains", num_chains, minimum=LEAST_CHAINS)
    check_count("num_leapfrog_steps", num_leapfrog_steps)
    check_count("num_posterior_draws", num_posterior_draws)
    check_count("num_elbo_samples", num_elbo_samples, minimum=2)
    check_real("conditional_ess", conditional_ess, above=0.0, below=1.0)
    if num_temperatures is not None:
        check_count("num_temperatures", num_temperatures, minimum=2)
    if block_size is not None:
        check_count("block_size", block_size)
    if latents is not None and bounds != "both":
        raise ArgumentError(
            "latents are where the upper bound begins: pass bounds='both' with them"
        )
    if seed is not None:
        torch.manual_seed(check_seed(seed))
    began = time.process_time()
    arguments = as_arguments(data)
    store = pyro.get_param_store()
    # Programs that have not run yet leave no parameters behind.
    with store.scope(store.get_state()):
        pair = None if guide is None else open_pair(model, guide, arguments)
        bound = open_model(model, arguments)
        if not bound.latents:
            raise ArgumentError("the model has no latent site: its log p(x) is its log density")
        if pair is not None:
            check_spread(pair)
        annealer = Annealer(
            bound,
            source_of(bound, pair, proposal),
            chains=num_chains,
            num_temperatures=num_temperatures,
            conditional_ess=conditional_ess,
            num_steps=num_leapfrog_steps,
            num_posterior_draws=num_posterior_draws,
            both=bounds == "both",
            latents=None if latents is None else check_latents(bound, latents),
            block_size=block_size,
            jit_compile=jit_compile,
            seed=seed,
        )
        elbo = None if pair is None else row_elbo(pair, num_elbo_samples)
        return anneal(annealer, elbo, began=began, progress=progress)
