# SPDX-License-Identifier: Apache-2.0
"""The exact posterior of the latents, by Pyro's own kernels or for all rows side by side."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from tqdm.auto import trange

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.arviz import finished
from pyro_idvae.infer.draws import Draws, evaluated
from pyro_idvae.infer.fit.batches import TensorBatches, check_batches
from pyro_idvae.infer.laplace.autoguide import AutoInjectiveLaplace
from pyro_idvae.infer.pyro_kernels import KERNELS, PYRO_KERNELS, ChainTask, run_chains
from pyro_idvae.infer.rowwise.vectorized import TARGET_ACCEPT_PROB as VECTORIZED_ACCEPT_PROB
from pyro_idvae.infer.rowwise.vectorized import RowSampler
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.side_by_side import stack
from pyro_idvae.programs.sites import check_sampled

WARMUP_STEPS = {"hmc": 500, "nuts": 500, "vectorized": 200}
TARGET_ACCEPT_PROB = {"hmc": 0.8, "nuts": 0.8, "vectorized": VECTORIZED_ACCEPT_PROB}


@dataclass(frozen=True)
class Sampling:
    """How to sample; the arguments of :func:`mcmc` that are not about the model or the output."""

    kernel: str = "nuts"
    num_samples: int = 500
    warmup_steps: int | None = None
    num_chains: int = 4
    target_accept_prob: float | None = None
    jit_compile: bool = False
    parallel: bool = False
    start: AutoInjectiveLaplace | None = None
    kernel_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.kernel not in WARMUP_STEPS:
            raise ArgumentError(
                f"kernel={self.kernel!r}: expected one of {', '.join(WARMUP_STEPS)}"
            )
        check_count("num_samples", self.num_samples)
        check_count("num_chains", self.num_chains)
        check_count("warmup_steps", self.warmup, minimum=0)
        check_real("target_accept_prob", self.target, above=0.0, below=1.0)
        if self.kernel not in KERNELS and (self.parallel or self.start is not None):
            raise ArgumentError(
                f"kernel={self.kernel!r} runs all chains side by side and finds its own start: "
                "leave out parallel and start"
            )
        if self.seed is not None:
            check_count("seed", self.seed, minimum=0)
        known = {"chunk_size"}
        if self.kernel in KERNELS:
            known = {*inspect.signature(PYRO_KERNELS[self.kernel]).parameters}
            known -= {"self", "model", "target_accept_prob", "jit_compile", "init_strategy"}
        unknown = sorted(set(self.kernel_options) - known)
        if unknown:
            raise ArgumentError(
                f"kernel_options has {unknown}: the kernel {self.kernel!r} takes {sorted(known)} "
                "here"
            )
        if self.kernel_options.get("chunk_size") is not None:
            check_count("chunk_size", self.kernel_options["chunk_size"])

    @property
    def warmup(self) -> int:
        """Steps that adapt."""
        return WARMUP_STEPS[self.kernel] if self.warmup_steps is None else self.warmup_steps

    @property
    def target(self) -> float:
        """The acceptance probability wanted."""
        given = self.target_accept_prob
        return TARGET_ACCEPT_PROB[self.kernel] if given is None else given

    def run(self, bound: BoundModel) -> Draws:
        """Return draws from the posterior of a model's latents.

        Raises:
            ArgumentError: for a model with nothing to sample, or that this kernel cannot sample.
        """
        if not bound.latents:
            raise ArgumentError("the model has no latent site: there is nothing to sample")
        check_sampled(bound.trace, bound.latents)
        if self.seed is not None:
            pyro.set_rng_seed(self.seed)
        options = {
            "target_accept_prob": self.target,
            "jit_compile": self.jit_compile,
            **self.kernel_options,
        }
        if self.kernel in KERNELS:
            values, stats = self._run_chains(bound, options)
        else:
            sampler = RowSampler(bound, chains=self.num_chains, warmup_steps=self.warmup, **options)
            values, stats = _run_rows(sampler, self.warmup, self.num_samples, self.progress)
        return evaluated(bound, values, stats, independent=False, method=self.kernel)

    def _run_chains(self, bound: BoundModel, options: dict[str, Any]) -> tuple[Values, Values]:
        if self.jit_compile:
            options.setdefault("ignore_jit_warnings", True)
        args, kwargs = bound.arguments
        task = ChainTask(
            bound.model,
            bound.arguments,
            self.kernel,
            num_samples=self.num_samples,
            warmup_steps=self.warmup,
            progress=self.progress,
            seed=int(torch.randint(2**30, ())),
            start=None if self.start is None else self.start.start(kwargs or args),
            # Pyro would draw a latent below an enumerated one once for each of its values.
            from_prior=tuple(bound.latents) if bound.summed else (),
            options=options,
        )
        chains = run_chains(task, self.num_chains, parallel=self.parallel)
        values, stats = (stack([chain[part] for chain in chains]) for part in (0, 1))
        return {name: values[name] for name in bound.latents}, stats


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
    num_prior_samples: int | None = None,
    num_limit_draws: int | None = None,
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
            ``if __name__ == "__main__":``.
        start: begin Pyro's chains at draws of this guide and in its metric; the vectorised kernel
            does so by itself.
        kernel_options: further arguments of the kernel, e.g. ``{"max_tree_depth": 6}``, or
            ``{"chunk_size": 4096}`` for ``"vectorized"``.
        num_prior_samples: draws from the prior; ``num_samples`` by default.
        num_limit_draws: draws to bound by what each latent's marginal knows, as for
            :func:`from_mcmc`; 0 for none.
        posterior_predictive: whether to draw new observations.
        coords: labels, e.g. ``{"data": names}``.
        seed: seed of Pyro's random numbers.
        progress: show a progress bar.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        DataError: for data that are empty or not finite.
        ArgumentError: for an argument out of range, a model with nothing to sample or with latents
            whose values cannot be listed, or rows that are not independent for ``"vectorized"``.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.mcmc(
        ...     vae.model, torch.randn(2, 5), num_samples=10, warmup_steps=10, progress=False
        ... )
        >>> draws["posterior"]["latent"].shape
        (4, 10, 2, 2)
        >>> many = idvae.mcmc(
        ...     vae.model, torch.randn(500, 5), kernel="vectorized", num_samples=10, progress=False
        ... )
        >>> many["posterior"]["latent"].shape
        (4, 10, 500, 2)
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
        seed=seed,
        progress=progress,
    )
    arguments = as_arguments(data)
    check_batches(model, TensorBatches(arguments, None), None)
    bound = BoundModel(model, None, arguments)
    return finished(
        bound,
        sampling.run(bound),
        num_prior_samples=num_prior_samples,
        num_limit_draws=num_limit_draws,
        posterior_predictive=posterior_predictive,
        coords=coords,
    )


def _run_rows(
    sampler: RowSampler, warmup_steps: int, num_samples: int, progress: bool
) -> tuple[Values, Values]:
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
