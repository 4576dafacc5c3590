# SPDX-License-Identifier: Apache-2.0
"""Exact posteriors as ArviZ data, by Pyro's own kernels or for all rows side by side."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from tqdm.auto import trange

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.autoguide import AutoInjectiveLaplace
from pyro_idvae.infer.batches import TensorBatches, as_arguments, check_batches
from pyro_idvae.infer.chains import KERNELS, PYRO_KERNELS, ChainTask, run_chains
from pyro_idvae.infer.convert import assemble, score_draws
from pyro_idvae.infer.draws import Draw, Layout, stack
from pyro_idvae.infer.programs import Program
from pyro_idvae.infer.rowwise.scoring import score_side_by_side
from pyro_idvae.infer.rowwise.vectorized import TARGET_ACCEPT_PROB as VECTORIZED_ACCEPT_PROB
from pyro_idvae.infer.rowwise.vectorized import RowSampler
from pyro_idvae.infer.sites import check_continuous

WARMUP_STEPS = {"hmc": 500, "nuts": 500, "vectorized": 200}
TARGET_ACCEPT_PROB = {"hmc": 0.8, "nuts": 0.8, "vectorized": VECTORIZED_ACCEPT_PROB}


def mcmc(
    model: Program,
    data: Any,
    *,
    kernel: str = "nuts",
    num_samples: int = 500,
    warmup_steps: int | None = None,
    num_chains: int = 2,
    target_accept_prob: float | None = None,
    jit_compile: bool = False,
    parallel: bool = False,
    start: AutoInjectiveLaplace | None = None,
    kernel_options: Mapping[str, Any] | None = None,
    num_prior_samples: int | None = None,
    posterior_predictive: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
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

    Groups as in :func:`from_guide`, with ``sample_stats`` ``diverging``, ``energy``,
    ``acceptance_rate`` and ``step_size``; of each row's chains for ``"vectorized"``.

    Args:
        model: the model, any callable without discrete latents.
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
            ``if __name__ == "__main__":``.
        start: begin Pyro's chains at draws of this guide and in its metric; the vectorised kernel
            does so by itself.
        kernel_options: further arguments of the kernel, e.g. ``{"max_tree_depth": 6}``, or
            ``{"chunk_size": 4096}`` for ``"vectorized"``.
        num_prior_samples: draws from the prior; ``num_samples`` by default.
        posterior_predictive: whether to draw new observations.
        coords: labels, e.g. ``{"data": names}``.
        seed: seed of Pyro's random numbers.
        progress: show a progress bar.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        DataError: for data that are empty or not finite.
        ArgumentError: for an argument out of range, a model with nothing to sample or with latents
            that are to be enumerated, or rows that are not independent for ``"vectorized"``.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.mcmc(
        ...     vae.model, torch.randn(2, 5), num_samples=10, warmup_steps=10, progress=False
        ... )
        >>> draws["posterior"]["latent"].shape
        (2, 10, 2, 2)
        >>> many = idvae.mcmc(
        ...     vae.model, torch.randn(500, 5), kernel="vectorized", num_samples=10, progress=False
        ... )
        >>> many["posterior"]["latent"].shape
        (2, 10, 500, 2)
    """
    if kernel not in WARMUP_STEPS:
        raise ArgumentError(f"kernel={kernel!r}: expected one of {', '.join(WARMUP_STEPS)}")
    for name, value in (("num_samples", num_samples), ("num_chains", num_chains)):
        check_count(name, value)
    warmup_steps = WARMUP_STEPS[kernel] if warmup_steps is None else warmup_steps
    check_count("warmup_steps", warmup_steps, minimum=0)
    target = TARGET_ACCEPT_PROB[kernel] if target_accept_prob is None else target_accept_prob
    check_real("target_accept_prob", target, above=0.0, below=1.0)
    if kernel not in KERNELS and (parallel or start is not None):
        raise ArgumentError(
            f"kernel={kernel!r} runs all chains side by side and finds its own start: leave out "
            "parallel and start"
        )
    arguments = as_arguments(data)
    check_batches(model, TensorBatches(arguments, None), None)
    if seed is not None:
        pyro.set_rng_seed(check_count("seed", seed, minimum=0))
    layout = Layout(model, None, arguments)
    if not layout.latents:
        raise ArgumentError("the model has no latent site: there is nothing to sample")
    check_continuous(layout.trace)
    _check_options(kernel, kernel_options or {})
    options = {"target_accept_prob": target, "jit_compile": jit_compile, **(kernel_options or {})}
    if kernel in KERNELS:
        if jit_compile:
            options.setdefault("ignore_jit_warnings", True)
        task = ChainTask(
            model,
            arguments,
            kernel,
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            progress=progress,
            seed=int(torch.randint(2**30, ())),
            start=None if start is None else start.start(data),
            options=options,
        )
        chains = run_chains(task, num_chains, parallel=parallel)
        draws, stats = (stack([chain[part] for chain in chains]) for part in (0, 1))
        scores = score_draws(layout, draws)
    else:
        sampler = RowSampler(layout, chains=num_chains, warmup_steps=warmup_steps, **options)
        draws, stats = _run_rows(sampler, warmup_steps, num_samples, progress)
        scores = score_side_by_side(layout, draws)
    return assemble(
        layout,
        draws,
        scores,
        stats,
        num_prior_samples=num_prior_samples,
        posterior_predictive=posterior_predictive,
        coords=coords,
        inference_method=kernel,
    )


def _check_options(kernel: str, options: Mapping[str, Any]) -> None:
    """Raise for arguments that the kernel does not have, or that are given elsewhere."""
    known = {"chunk_size"}
    if kernel in KERNELS:
        known = {*inspect.signature(PYRO_KERNELS[kernel]).parameters}
        known -= {"self", "model", "target_accept_prob", "jit_compile", "init_strategy"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ArgumentError(
            f"kernel_options has {unknown}: the kernel {kernel!r} takes {sorted(known)} here"
        )
    if options.get("chunk_size") is not None:
        check_count("chunk_size", options["chunk_size"])


def _run_rows(
    sampler: RowSampler, warmup_steps: int, num_samples: int, progress: bool
) -> tuple[Draw, Draw]:
    """Return draws of shape ``(chain, draw) + site shape`` and statistics with rows."""
    sweeps = []
    for iteration in trange(
        warmup_steps + num_samples, desc="vectorized HMC", unit="step", disable=not progress
    ):
        sweep = sampler.advance()
        if iteration >= warmup_steps:
            sweeps.append(sweep)
    positions = torch.stack([sweep.positions for sweep in sweeps], 1)
    stats = {
        name: torch.stack([sweep.stats[name] for sweep in sweeps], 1) for name in sweeps[0].stats
    }
    return sampler.constrain(positions), stats
