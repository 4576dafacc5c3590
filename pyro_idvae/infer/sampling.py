# SPDX-License-Identifier: Apache-2.0
"""How to sample a posterior, by Pyro's own kernels or for all rows side by side."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import torch

from pyro_idvae._checks import check_count, check_real, check_seed
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.draws import Draws, evaluated, shape_of
from pyro_idvae.infer.interrupts import common
from pyro_idvae.infer.laplace.autoguide import AutoInjectiveLaplace
from pyro_idvae.infer.pyro_kernels import KERNELS, PYRO_KERNELS, ChainTask, run_chains
from pyro_idvae.infer.ranks import agreed_seed, first_finds, shared
from pyro_idvae.infer.rowwise.blocks import Block, split_rows
from pyro_idvae.infer.rowwise.sample_rows import Drawn, joined, on_site_scale, sample_blocks
from pyro_idvae.infer.rowwise.vectorized import TARGET_ACCEPT_PROB as VECTORIZED_ACCEPT_PROB
from pyro_idvae.infer.shares import Portion, Shares
from pyro_idvae.programs.as_found import as_found
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.factorisation import check_factorises
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
    block_size: int | None = None
    seed: int | None = None
    progress: bool = True
    independent: ClassVar[bool] = False

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
            check_seed(self.seed)
        if self.start is not None and not isinstance(self.start, AutoInjectiveLaplace):
            raise ArgumentError(
                f"start is a {type(self.start).__name__}: expected an AutoInjectiveLaplace guide"
            )
        if not isinstance(self.kernel_options, Mapping):
            raise ArgumentError(
                f"kernel_options is a {type(self.kernel_options).__name__}: expected a dict, e.g. "
                "{'max_tree_depth': 6}"
            )
        known: set[str] = set()
        if self.kernel in KERNELS:
            known = {*inspect.signature(PYRO_KERNELS[self.kernel]).parameters}
            known -= {"self", "model", "target_accept_prob", "jit_compile", "init_strategy"}
        unknown = sorted(set(self.kernel_options) - known)
        if unknown:
            raise ArgumentError(
                f"kernel_options has {unknown}: the kernel {self.kernel!r} takes {sorted(known)} "
                "here"
            )
        if self.block_size is not None:
            check_count("block_size", self.block_size)
            if self.kernel in KERNELS:
                raise ArgumentError(
                    f"block_size={self.block_size}: the kernel {self.kernel!r} samples all rows in "
                    "one; take kernel='vectorized', or leave it out"
                )

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
        values, stats = self.sample(bound)
        if shape_of(values) != self.shape:
            raise KeyboardInterrupt
        return evaluated(bound, values, stats, independent=False, method=self.kernel)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of chains and of draws in each that are wanted."""
        return self.num_chains, self.num_samples

    def sample(self, bound: BoundModel) -> tuple[Values, Values]:
        """Return latents of shape ``(chain, draw) + site shape``, and statistics.

        After an interrupt these are the draws so far. Processes that ``torchrun`` started share the
        blocks of ``"vectorized"``, and all return the draws of all rows.

        Raises:
            ArgumentError: as :meth:`run`.
            KeyboardInterrupt: if there was no draw yet.
        """
        self.begin(bound)
        if self.kernel in KERNELS:
            return self._run_chains(bound)
        parts = shared(self.blocks(bound), lambda own: self.of_blocks(bound, own))
        return on_site_scale(bound, joined(parts))

    def sample_parts(self, bound: BoundModel) -> tuple[Shares, list[tuple[Values, Values]]]:
        """Return the same in the blocks that are this process's.

        Raises:
            ArgumentError: as :meth:`run`.
            KeyboardInterrupt: if there was no draw yet.
        """
        self.begin(bound)
        if self.kernel in KERNELS:
            return Shares.whole(bound), [self._run_chains(bound)]
        blocks = self.blocks(bound)
        portions: list[Portion] = []
        drawn: list[tuple[Values, Values]] = []

        def draw(own: Sequence[Block]) -> list[None]:
            for block, found in zip(own, self.of_blocks(bound, own), strict=True):
                portions.append(Portion.of(bound, block))
                drawn.append(on_site_scale(portions[-1].bound, found))
            return [None] * len(own)

        shared(blocks, draw)
        return Shares(bound, portions, blocks), drawn

    def begin(self, bound: BoundModel) -> None:
        """Check that there is something to sample, and seed torch's generators."""
        if not bound.latents:
            raise ArgumentError("the model has no latent site: there is nothing to sample")
        check_sampled(bound.trace, bound.latents)
        if self.seed is not None:
            # Pyro's own seeds numpy's and Python's generators too: nothing here draws from those.
            torch.manual_seed(self.seed)

    def blocks(self, bound: BoundModel) -> list[Block]:
        """Return the blocks of a model's data points, its rows known to be independent.

        Raises:
            ArgumentError: if they are not.
        """
        with as_found(bound.model):
            check_factorises(bound)
        return split_rows(bound, self.num_chains, self.block_size, agreed_seed(self.seed))

    def of_blocks(
        self, bound: BoundModel, blocks: Sequence[Block], *, progress: bool = True
    ) -> list[Drawn]:
        """Return draws of some blocks, as :func:`sample_blocks` does."""
        return sample_blocks(
            bound,
            blocks,
            chains=self.num_chains,
            warmup_steps=self.warmup,
            num_samples=self.num_samples,
            target_accept_prob=self.target,
            jit_compile=self.jit_compile,
            progress=progress and self.progress,
        )

    def of_block(self, bound: BoundModel, block: Block) -> tuple[Portion, Values, Values]:
        """Return draws of a block and statistics, with the model on its rows."""
        (drawn,) = self.of_blocks(bound, [block], progress=False)
        portion = Portion.of(bound, block)
        return portion, *on_site_scale(portion.bound, drawn)

    def said(self) -> dict[str, Any]:
        """Return the options, those that were found too, in words and numbers."""
        return {
            **asdict(replace(self, start=None, kernel_options={})),
            "start": self.start is not None,
            "kernel_options": str(sorted(self.kernel_options.items())),
            "warmup_steps": self.warmup,
            "target_accept_prob": self.target,
        }

    def _run_chains(self, bound: BoundModel) -> tuple[Values, Values]:
        task = self.task(bound)
        task = replace(task, seed=first_finds(lambda: task.seed))
        chains = common(run_chains(task, self.num_chains, parallel=self.parallel))
        values, stats = (
            stack([stack([draw[part] for draw in chain]) for chain in chains]) for part in (0, 1)
        )
        return {name: values[name] for name in bound.latents}, stats

    def task(self, bound: BoundModel) -> ChainTask:
        """Return the first chain of Pyro's kernels; the next ones have the seeds after its own."""
        options = {
            "target_accept_prob": self.target,
            "jit_compile": self.jit_compile,
            **self.kernel_options,
        }
        if self.jit_compile:
            options.setdefault("ignore_jit_warnings", True)
        args, kwargs = bound.arguments
        return ChainTask(
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
