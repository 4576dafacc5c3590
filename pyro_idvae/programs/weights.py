# SPDX-License-Identifier: Apache-2.0
"""The weights of a program: all finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.run import owners_of


def weights_of(program: Any) -> dict[str, Tensor]:
    """Return the parameters of a program that is a module or a method of one."""
    return {
        name: weight for module in owners_of(program) for name, weight in module.named_parameters()
    }


def check_weights(kind: str, weights: Mapping[str, Tensor]) -> None:
    """Raise unless all are finite.

    Args:
        kind: whose they are, ``"likelihood"`` or ``"model"``.
        weights: parameters by name.
    """
    bad = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    if bad:
        raise ArgumentError(
            f"the {kind}'s weights are not finite: {bad[:5]} hold NaN or infinite entries; train "
            "it again, or load other weights"
        )
