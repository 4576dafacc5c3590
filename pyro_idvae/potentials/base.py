# SPDX-License-Identifier: Apache-2.0
"""The abstract convex potential: what every potential can be asked."""

from __future__ import annotations

from torch import Tensor, nn

from pyro_idvae._abstract import AbstractOrFinal, may_override, must_write
from pyro_idvae._checks import check_count


class ConvexPotential(AbstractOrFinal, nn.Module):
    r"""A smooth, strongly convex function φ on R^d with closed-form derivatives.

    .. math:: \alpha I \preceq \nabla^2\varphi(x) \preceq M I

    No derivative is taken by automatic differentiation, so every method works under ``no_grad``,
    ``inference_mode``, ``torch.vmap`` and ``torch.jit.trace`` and is itself differentiable in
    ``x`` and in the parameters.

    This root says what a potential can be asked; subclass :class:`LearnablePotential` to write
    one of your own, and inherit the tests of ``pyro_idvae.testing.PotentialLaws``.

    Args:
        dim: dimension d of the argument.

    Raises:
        TypeError: for an abstract class, or a subclass that overrides what is final.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = check_count("dim", dim)

    @must_write
    def forward(self, x: Tensor) -> Tensor:
        """Return φ(x), of shape ``batch``, for ``x`` of shape ``batch + (dim,)``."""
        raise NotImplementedError

    @must_write
    def gradient(self, x: Tensor) -> Tensor:
        """Return ∇φ(x), of the shape of ``x``: ``batch + (dim,)``."""
        raise NotImplementedError

    @must_write
    def gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇φ(x) and ∇²φ(x) of shapes ``batch + (dim,)`` and ``batch + (dim, dim)``."""
        raise NotImplementedError

    @must_write
    def hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return ∇²φ(x)·V without forming the Hessian.

        Args:
            x: points, of shape ``batch + (dim,)``.
            matrix: V, of shape ``batch + (dim, k)``.

        Returns:
            A tensor of shape ``batch + (dim, k)``.
        """
        raise NotImplementedError

    @must_write
    def strong_convexity(self) -> Tensor:
        """Return α: a lower bound of the Hessian's eigenvalues at every point (differentiable)."""
        raise NotImplementedError

    @must_write
    def smoothness(self) -> Tensor:
        """Return M: an upper bound of the Hessian's eigenvalues at every point (differentiable)."""
        raise NotImplementedError

    def hessian(self, x: Tensor) -> Tensor:
        """Return ∇²φ(x), of shape ``batch + (dim, dim)``, for ``x`` of ``batch + (dim,)``."""
        return self.gradient_and_hessian(x)[1]

    @may_override
    def evaluated(self) -> ConvexPotential:
        """Return the same function with what no x enters computed once, for many calls to come.

        It holds as long as no parameter changes, and one backward pass may go through it.
        """
        return self

    @may_override
    def dependencies(self) -> tuple[Tensor, ...]:
        """Return every tensor that the function is made of: where one has changed, φ may have."""
        plain = (value for value in vars(self).values() if isinstance(value, Tensor))
        return (*self.parameters(), *self.buffers(), *plain)
