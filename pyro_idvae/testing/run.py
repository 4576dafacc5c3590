# SPDX-License-Identifier: Apache-2.0
"""Run the laws without pytest, in a notebook or a script."""

from __future__ import annotations

from typing import Any

from pyro_idvae.errors import ArgumentError


def run_laws(case: type[Any]) -> list[str]:
    """Run every law of a test case, each on a fresh instance, as pytest would.

    Args:
        case: a subclass of one of the classes of laws.

    Returns:
        The names of the laws, in the order they ran: all that there are.

    Raises:
        ArgumentError: if the class has no method whose name begins with ``test_``.
        AssertionError: by the first law that is broken.

    Example:
        >>> from pyro_idvae.potentials import QuadraticPotential
        >>> from pyro_idvae.testing import PotentialLaws, run_laws
        >>> class TestQuadratic(PotentialLaws):
        ...     def make(self):
        ...         return QuadraticPotential(2)
        >>> "test_midpoint_convexity" in run_laws(TestQuadratic)
        True
    """
    names = sorted(name for name in dir(case) if name.startswith("test_"))
    if not names:
        raise ArgumentError(
            f"case={case!r} has no laws: pass a subclass of PotentialLaws, TransformLaws or another"
        )
    for name in names:
        getattr(case(), name)()
    return names
