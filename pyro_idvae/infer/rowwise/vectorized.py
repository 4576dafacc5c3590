# SPDX-License-Identifier: Apache-2.0
"""Hamiltonian Monte Carlo for thousands of data points at once."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.blocks import Block, split_rows
from pyro_idvae.infer.rowwise.capture import CapturedFunction
from pyro_idvae.infer.rowwise.chains import Chains
from pyro_idvae.infer.rowwise.gradients import RowGradient, recorded
from pyro_idvae.infer.rowwise.starts import (
    closed_form_start,
    has_closed_form,
    scattered,
    searched_start,
)
from pyro_idvae.infer.rowwise.stream import drawn_seed
from pyro_idvae.infer.rowwise.trajectory import Dynamics, Outcome
from pyro_idvae.programs.arguments import take_rows
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.door import check_program, open_model
from pyro_idvae.programs.factorisation import check_factorises, check_rows
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import Program, gradients, silent, undisturbed

TARGET_ACCEPT_PROB = 0.88
"""This acceptance gave the largest minimum of the effective sizes of z and z²."""

COARSE = 0.05
"""Nats of rounding above which a density is too coarse to sample."""


class Sweep:
    """One iteration's draws and statistics; each of shape ``(chains, data)``."""

    def __init__(self, positions: Tensor, **stats: Tensor) -> None:
        self.positions, self.stats = positions, stats


class RowSampler:
    """Chains for every row of a model's data plate.

    Args:
        bound: the model on its data; it must factorise over the plate.
        chains: chains of each data point.
        warmup_steps: iterations that adapt.
        target_accept_prob: acceptance the step sizes are adapted to.
        blocks: the data points to sample; all, as they suit the device, if None.
        jit_compile: compile the trajectories by ``torch.compile``.
    """

    def __init__(
        self,
        bound: BoundModel,
        *,
        chains: int,
        warmup_steps: int,
        target_accept_prob: float = TARGET_ACCEPT_PROB,
        blocks: Sequence[Block] | None = None,
        jit_compile: bool = False,
    ) -> None:
        check_factorises(bound)
        self.bound, self.chains, self.warmup_steps = bound, chains, warmup_steps
        self.blocks = blocks or split_rows(bound, chains, None, drawn_seed())
        self.target_accept_prob, self.jit_compile = target_accept_prob, jit_compile
        self.recorded: CapturedFunction | None = None
        self.compiled: Dynamics | None = None
        self.closed = has_closed_form(bound)
        with silent(bound.model):
            self.whole = RowDensity(bound)
            with undisturbed(bound.arguments):
                self.recorded = recorded(self._density(self.blocks[0]))
            self.parts = [self._begin(block) for block in self.blocks]

    def _density(self, block: Block) -> RowDensity:
        return RowDensity(
            self.bound, take_rows(self.bound.arguments, block.rows.repeat(self.chains))
        )

    def _begin(self, block: Block) -> Chains:
        """Return the chains of a block, where they begin."""
        chains = self.chains
        with block.stream.drawing():
            target = RowGradient(self._density(block), self.recorded)
            start = None
            if self.closed:
                start = closed_form_start(self.bound.on_rows(block.rows), chains)
            mode, covariance = start or searched_start(target, chains)
            return Chains(
                target,
                chains,
                scattered(target, mode, covariance, chains),
                covariance,
                warmup_steps=self.warmup_steps,
                target_accept_prob=self.target_accept_prob,
                dynamics=self._dynamics(target),
            )

    def _dynamics(self, target: RowGradient) -> Dynamics:
        if not target.captured:
            return Dynamics(target.evaluate)
        if self.compiled is None:
            self.compiled = Dynamics(target.evaluate, jit_compile=self.jit_compile)
        return self.compiled

    @property
    def captured(self) -> bool:
        """Whether the model's operations were recorded and verified, rather than run each time."""
        return all(part.target.captured for part in self.parts)

    def positions(self) -> Tensor:
        """Return where the chains are, of shape ``(chains, data, K)``."""
        return self._whole([part.state.u for part in self.parts])

    def advance(self) -> Sweep:
        """Run one iteration of every chain."""
        # What was recorded runs none of the model's code.
        with nullcontext() if self.captured else silent(self.bound.model):
            outcomes = [self._moved(*both) for both in zip(self.blocks, self.parts, strict=True)]
        if self.parts[0].iteration == self.warmup_steps:
            self._check_again()
        steps = [part.current_step.repeat(self.chains) for part in self.parts]
        return Sweep(
            self._whole([outcome.state.u for outcome in outcomes]),
            diverging=self._whole([outcome.diverging for outcome in outcomes]),
            energy=self._whole([outcome.energy for outcome in outcomes]),
            acceptance_rate=self._whole([outcome.acceptance for outcome in outcomes]),
            step_size=self._whole(steps),
        )

    @staticmethod
    def _moved(block: Block, part: Chains) -> Outcome:
        with block.stream.drawing():
            return part.advance()

    def _check_again(self) -> None:
        """Check where the posterior lives what could hide behind the densities of prior draws."""
        for block, part in zip(self.blocks, self.parts, strict=True):
            with block.stream.drawing():
                density = RowDensity(self.bound.on_rows(block.rows))
                u = part.state.u[: len(block.rows)]
                spread = part.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
                check_rows(density, u, u + spread * torch.randn_like(u))
        log_prob = self._whole([part.state.log_prob for part in self.parts])
        unit = float(log_prob.abs().max()) * torch.finfo(log_prob.dtype).eps
        if unit > COARSE:
            warnings.warn(
                f"log densities are rounded to {unit:.2g} nats: the posteriors of rows with "
                "densities this large are not resolved. Pass data and parameters in double "
                "precision, or scale observations that the latents do not explain",
                UserWarning,
                stacklevel=2,
            )

    def _whole(self, parts: list[Tensor]) -> Tensor:
        """Join the blocks' rows to ``(chains, data, ...)``."""
        wide = [part.unflatten(0, (self.chains, -1)) for part in parts]
        return torch.cat(
            [part[:, : block.kept] for block, part in zip(self.blocks, wide, strict=True)], 1
        )

    def constrain(self, positions: Tensor) -> Values:
        """Return latents of positions ``(..., data, K)``, of shape ``... + site shape``."""
        with torch.no_grad():
            return self.whole.constrain(positions)[0]


class VectorizedHMC(MCMCKernel):
    r"""HMC with a chain, a step size and a dense metric of its own for each data point.

    Given the parameters, the latents of different data points are independent: their chains run
    side by side in tensors of shape ``(N, K)``, so that a step costs one evaluation of the model on
    all rows. Chains begin near the modes; for an injective likelihood with N(0, I) prior these and
    the metric :math:`(I + J^\top I_\eta J)^{-1}` come in closed form. Warm-up adapts the metrics
    (each data point's own draws, pulled towards the first guess), the step sizes and the length of
    trajectories, which is jittered.

    The model may be any whose log joint factorises over one plate; that is checked. Its operations
    are recorded once and, if the recording gives the model's own density at random points, run
    without its Python.

    As a kernel for ``pyro.infer.MCMC`` it runs one chain; ``idvae.mcmc(..., kernel="vectorized")``
    runs several.

    Args:
        model: the model.
        target_accept_prob: acceptance the step sizes are adapted to.
        block_size: data points evaluated at once; by default what stays in a processor's cache.
        jit_compile: compile the trajectories by ``torch.compile``, for long runs.

    Raises:
        ArgumentError: if the model does not factorise over its data plate.

    Example:
        >>> import torch
        >>> from pyro.infer import MCMC
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer import VectorizedHMC
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> kernel = VectorizedHMC(vae.model)
        >>> sampler = MCMC(kernel, num_samples=10, warmup_steps=20, disable_progbar=True)
        >>> sampler.run(torch.randn(30, 5))
        >>> sampler.get_samples()["latent"].shape
        torch.Size([10, 30, 2])

    Reference:
        Hoffman, Radul & Sountsov, *An Adaptive-MCMC Scheme for Setting Trajectory Lengths in
        Hamiltonian Monte Carlo*, AISTATS 2021.
    """

    def __init__(
        self,
        model: Program,
        *,
        target_accept_prob: float = TARGET_ACCEPT_PROB,
        block_size: int | None = None,
        jit_compile: bool = False,
    ) -> None:
        check_program("model", model)
        self.model = model
        self.transforms: dict[str, Any] = {}  # draws are handed over as the model's own values
        self.options: dict[str, Any] = {
            "target_accept_prob": check_real(
                "target_accept_prob", target_accept_prob, above=0.0, below=1.0
            ),
            "jit_compile": jit_compile,
        }
        self.block_size = None if block_size is None else check_count("block_size", block_size)
        self.sampler: RowSampler | None = None
        super().__init__()

    @gradients()
    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Find the starts for the model's arguments."""
        bound = open_model(self.model, (args, kwargs))
        blocks = split_rows(bound, 1, self.block_size, drawn_seed())
        self.sampler = RowSampler(
            bound, chains=1, warmup_steps=warmup_steps, blocks=blocks, **self.options
        )
        self.warmup_steps, self.count = warmup_steps, 0
        self.divergences: list[int] = []
        self.acceptance = 0.0

    def _ready(self) -> RowSampler:
        if self.sampler is None:
            raise ArgumentError("the kernel has no data yet: call setup, as MCMC.run does")
        return self.sampler

    @property
    def initial_params(self) -> Values:
        """Where the chains begin."""
        sampler = self._ready()
        return sampler.constrain(sampler.positions()[0])

    @initial_params.setter
    def initial_params(self, params: Any) -> None:
        raise ArgumentError("initial_params cannot be set: chains begin near the modes")

    @gradients()
    def sample(self, params: Values) -> Values:
        """Run one iteration; returns the latents by site. The kernel knows where it is."""
        sampler = self._ready()
        sweep = sampler.advance()
        self.count += 1
        drawn = self.count - self.warmup_steps
        if drawn > 0:
            self.acceptance += (
                float(sweep.stats["acceptance_rate"].mean()) - self.acceptance
            ) / drawn
            if bool(sweep.stats["diverging"].any()):
                self.divergences.append(drawn - 1)
        return sampler.constrain(sweep.positions[0])

    def logging(self) -> OrderedDict[str, str]:
        """Return what the progress bar shows."""
        sampler = self._ready()
        step = float(torch.cat([part.current_step for part in sampler.parts]).median())
        return OrderedDict(
            [("median step", f"{step:.2f}"), ("acc. prob", f"{self.acceptance:.2f}")]
        )

    def diagnostics(self) -> dict[str, Any]:
        """Return the iterations in which a row diverged, and the mean acceptance."""
        return {"divergences": self.divergences, "acceptance rate": self.acceptance}

    def cleanup(self) -> None:
        """Let go of the data."""
        self.sampler = None
