# SPDX-License-Identifier: Apache-2.0
"""Exact posteriors by Pyro's own kernels, as ArviZ data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro.infer import HMC, MCMC, NUTS
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.batches import TensorBatches, as_arguments, check_batches
from pyro_idvae.infer.convert import assemble, score_draws
from pyro_idvae.infer.draws import Layout, stack
from pyro_idvae.infer.programs import Program, evaluating, frozen


class _Recording:
    """Keeps the energy at the start of each trajectory: potential plus fresh kinetic energy."""

    energy = float("nan")

    def _sample_r(self, name: str) -> Any:
        momenta = super()._sample_r(name)  # type: ignore[misc]
        kinetic = self._kinetic_energy(momenta[1])  # type: ignore[attr-defined]
        self.energy = float(kinetic + self._potential_energy_last)  # type: ignore[attr-defined]
        return momenta


class _RecordingNUTS(_Recording, NUTS):
    pass


class _RecordingHMC(_Recording, HMC):
    pass


KERNELS = {"hmc": _RecordingHMC, "nuts": _RecordingNUTS}


class _Stats:
    """Statistics of one chain's draws, through MCMC's hook."""

    def __init__(self) -> None:
        self.energy: list[float] = []
        self.acceptance: list[float] = []
        self.step_size: list[float] = []
        self.mean = 0.0

    def __call__(self, kernel: Any, samples: Any, stage: str, i: int) -> None:
        if not stage.lower().startswith("sample"):
            return
        # The kernel keeps the running mean of the draws' acceptance; its steps give each one's.
        count = len(self.acceptance) + 1
        mean = float(kernel._mean_accept_prob)
        self.acceptance.append(self.mean + count * (mean - self.mean))
        self.mean = mean
        self.energy.append(float(kernel.energy))
        self.step_size.append(float(kernel.step_size))


def mcmc(
    model: Program,
    data: Any,
    *,
    kernel: str = "nuts",
    num_samples: int = 500,
    warmup_steps: int = 500,
    num_chains: int = 2,
    target_accept_prob: float = 0.8,
    kernel_options: Mapping[str, Any] | None = None,
    num_prior_samples: int | None = None,
    posterior_predictive: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Any:
    """Sample the exact posterior of a model's latents, its parameters as they are now.

    Chains run one after the other, each from its own start. Groups as in :func:`from_guide`, with
    ``sample_stats`` ``diverging``, ``energy``, ``acceptance_rate`` and ``step_size``.

    Args:
        model: the model, any callable without discrete latents.
        data: a Tensor, or a tuple or dict of the model's arguments. The dimension sampled is rows
            times latent dimension, so give a few rows.
        kernel: ``"nuts"`` or ``"hmc"``.
        num_samples: draws a chain.
        warmup_steps: steps a chain that adapt step size and mass matrix and are thrown away.
        num_chains: chains.
        target_accept_prob: acceptance the step size is adapted to.
        kernel_options: further arguments of Pyro's kernel.
        num_prior_samples: draws from the prior; ``num_samples`` by default.
        posterior_predictive: whether to draw new observations.
        coords: labels, e.g. ``{"data": names}``.
        seed: seed of Pyro's random numbers.
        progress: show Pyro's progress bar.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        DataError: for data that are empty or not finite.
        ArgumentError: for an argument out of range, or a model with nothing to sample or with
            latents that are to be enumerated.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.mcmc(
        ...     vae.model, torch.randn(2, 5), num_samples=10, warmup_steps=10, progress=False
        ... )
        >>> draws["posterior"]["latent"].shape
        (2, 10, 2, 2)
    """
    if kernel not in KERNELS:
        raise ArgumentError(f"kernel={kernel!r}: expected one of {', '.join(KERNELS)}")
    for name, value in (("num_samples", num_samples), ("num_chains", num_chains)):
        check_count(name, value)
    check_count("warmup_steps", warmup_steps, minimum=0)
    check_real("target_accept_prob", target_accept_prob, above=0.0, below=1.0)
    arguments = as_arguments(data)
    check_batches(model, TensorBatches(arguments, None), None)
    if seed is not None:
        pyro.set_rng_seed(check_count("seed", seed, minimum=0))
    layout = Layout(model, None, arguments)
    if not layout.latents:
        raise ArgumentError("the model has no latent site: there is nothing to sample")
    chains: list[dict[str, Tensor]] = []
    stats: dict[str, list[Tensor]] = {}
    args, kwargs = arguments
    for _ in range(num_chains):
        recorded = _Stats()
        sampler = MCMC(
            KERNELS[kernel](
                model, target_accept_prob=target_accept_prob, **dict(kernel_options or {})
            ),
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            hook_fn=recorded,
            disable_progbar=not progress,
        )
        with frozen(model), evaluating(model):
            sampler.run(*args, **kwargs)
        chains.append(sampler.get_samples())
        diverging = torch.zeros(num_samples, dtype=torch.bool)
        diverging[list(sampler.kernel._divergences)] = True
        for name, values in (
            ("diverging", diverging),
            ("energy", torch.tensor(recorded.energy)),
            ("acceptance_rate", torch.tensor(recorded.acceptance)),
            ("step_size", torch.tensor(recorded.step_size)),
        ):
            stats.setdefault(name, []).append(values)
    draws = stack(chains)
    return assemble(
        layout,
        draws,
        score_draws(layout, draws),
        {name: torch.stack(values) for name, values in stats.items()},
        num_prior_samples=num_prior_samples,
        posterior_predictive=posterior_predictive,
        coords=coords,
        inference_method=kernel,
    )
