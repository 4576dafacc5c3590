# SPDX-License-Identifier: Apache-2.0
"""The remedies by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro_idvae._checks import check_options
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.annealed import Annealed
from pyro_idvae.infer.objectives.batch_norm import BatchNorm
from pyro_idvae.infer.objectives.beta import Beta
from pyro_idvae.infer.objectives.delta import Delta
from pyro_idvae.infer.objectives.free_bits import FreeBits
from pyro_idvae.infer.objectives.importance_weighted import ImportanceWeighted
from pyro_idvae.infer.objectives.inverse_lipschitz import InverseLipschitz
from pyro_idvae.infer.objectives.lagging import Lagging
from pyro_idvae.infer.objectives.latent_reconstruction import LatentReconstruction
from pyro_idvae.infer.objectives.mmd import MMD
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.semi_amortised import SemiAmortised
from pyro_idvae.infer.objectives.target_rate import TargetRate

OBJECTIVES: dict[str, Callable[..., Any]] = {
    "annealed": Annealed,
    "batch_norm": BatchNorm,
    "beta": Beta,
    "delta": Delta,
    "free_bits": FreeBits,
    "importance_weighted": ImportanceWeighted,
    "inverse_lipschitz": InverseLipschitz,
    "lagging": Lagging,
    "latent_reconstruction": LatentReconstruction,
    "mmd": MMD,
    "semi_amortised": SemiAmortised,
    "target_rate": TargetRate,
}
"""Constructors of the remedies for posterior collapse, by name."""


def make_objective(name: str, **options: Any) -> Any:
    """Return a remedy by its name.

    Args:
        name: one of ``OBJECTIVES``.
        **options: arguments of its constructor.

    Returns:
        An objective that :func:`fit`, Pyro's ``SVI`` and ``ELBOModule`` take.

    Raises:
        ArgumentError: for a name that is not in the table, or options that it does not take.

    Example:
        >>> from pyro_idvae.infer.objectives import make_objective
        >>> make_objective("free_bits", nats=0.5).nats
        tensor(0.5000, dtype=torch.float64)
    """
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ArgumentError(f"objective={name!r:.60}: expected one of {sorted(OBJECTIVES)}")
    kind = OBJECTIVES[name]
    own = {k: v for k, v in options.items() if k not in SHARED or not _is_shared(kind)}
    check_options(kind, own)
    return kind(**options)


SHARED = ("num_particles", "vectorize_particles", "max_plate_nesting")


def _is_shared(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Objective)
