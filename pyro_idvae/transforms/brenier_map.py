# SPDX-License-Identifier: Apache-2.0
"""Brenier maps: gradients of strongly convex potentials, as bijective Pyro transforms."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_transform import TransformModule
from torch import Tensor
from torch.distributions import constraints
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from pyro_idvae import _upstream
from pyro_idvae._abstract import AbstractOrFinal
from pyro_idvae._checks import (
    check_count,
    check_hidden_dims,
    check_last_dim,
    check_options,
    check_real,
)
from pyro_idvae._precision import full_precision
from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials import ICNN, ConvexPotential, RidgePotential
from pyro_idvae.transforms.iterative import conjugate_gradient, lanczos_log_det
from pyro_idvae.transforms.newton import Inversion, attach_gradient, invert_gradient


class Brenier(AbstractOrFinal, TransformModule):
    r"""The bijection y = ∇φ(x) of R^d, for a strongly convex potential φ.

    .. math:: \alpha|x - x'| \le |\nabla\varphi(x) - \nabla\varphi(x')| \le M|x - x'|,
        \qquad \log|\det J(x)| = \log\det\nabla^2\varphi(x)

    The inverse is found by Newton's method and carries implicit gradients with respect to y and to
    the parameters. Up to ``max_exact_dim`` dimensions Hessians are factorised; above, the inverse
    runs matrix-free and the log-determinant is *estimated* (Lanczos quadrature for the value,
    conjugate gradients for an unbiased gradient), anew on every call. The estimate's noise is of
    the order of nats (a standard deviation of 7 at d = 300 with 8 probes): train with it, but do
    not put it into importance weights.

    Calls whose output requires grad remember their input, so that a flow guide's own draws are
    scored without solving; the memory is void once x, y or a parameter has changed. What it returns
    is the input itself, with the input's own graph and no gradient with respect to y.

    Args:
        potential: φ, of dimension d.
        tolerance: largest relative residual of the inverse; None for 1e-10 in float64, 4e-5 in
            float32.
        max_steps: at most this many Newton steps.
        max_exact_dim: largest d for which Hessians are factorised.
        num_probes: probe vectors of the stochastic log-determinant.
        lanczos_steps: size of its Lanczos matrices.

    Shapes: x and y are ``batch + (d,)``; :meth:`log_abs_det_jacobian` is ``batch``.

    Raises:
        ConvergenceError: by the inverse, if its residual stays above the tolerance.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import brenier
        >>> transform = brenier(2, hidden_dims=[16]).double()
        >>> x = torch.randn(5, 2, dtype=torch.double)
        >>> y, log_det = transform.call_and_ladj(x)
        >>> torch.allclose(transform.inv(y), x), log_det.shape
        (True, torch.Size([5]))

    Reference:
        Huang et al., *Convex Potential Flows*, ICLR 2021.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(
        self,
        potential: ConvexPotential,
        *,
        tolerance: float | None = None,
        max_steps: int = 100,
        max_exact_dim: int = 256,
        num_probes: int = 8,
        lanczos_steps: int = 30,
    ) -> None:
        super().__init__(cache_size=0)  # type: ignore[no-untyped-call]
        if not isinstance(potential, ConvexPotential):
            raise ArgumentError(f"potential is a {type(potential).__name__}: pass ConvexPotential")
        self.potential = potential
        self.tolerance = None if tolerance is None else check_real("tolerance", tolerance, above=0)
        self.max_steps = check_count("max_steps", max_steps)
        self.max_exact_dim = check_count("max_exact_dim", max_exact_dim, minimum=0)
        self.num_probes = check_count("num_probes", num_probes)
        self.lanczos_steps = check_count("lanczos_steps", lanczos_steps)
        self._last: tuple[weakref.ref[Tensor], Tensor, tuple[Any, ...]] | None = None

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.potential.dim

    @property
    def _exact(self) -> bool:
        return self.dim <= self.max_exact_dim

    def _call(self, x: Tensor) -> Tensor:
        return self._remember(x, self.potential.gradient(x))

    def _inverse(self, y: Tensor) -> Tensor:
        check_last_dim("y", y, self.dim)
        known = self._recall(y)
        if known is not None:
            return known
        potential = self.potential.evaluated()
        x = self._solve(potential, y).x
        return attach_gradient(potential, x, y, self._exact) if torch.is_grad_enabled() else x

    def _solve(self, potential: ConvexPotential, y: Tensor) -> Inversion:
        return invert_gradient(
            potential,
            y,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
            exact=self._exact,
        )

    def inverse_with_error(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the inverse together with a proven bound of its error.

        Strong convexity gives ‖x − x*‖ ≤ ‖∇φ(x) − y‖ / α for the exact inverse x*, in exact
        arithmetic.

        Args:
            y: points, of shape ``batch + (d,)``.

        Returns:
            x of shape ``batch + (d,)`` and the bound of shape ``batch``; neither carries grad.
        """
        check_last_dim("y", y, self.dim)
        with torch.no_grad():
            potential = self.potential.evaluated()
            solution = self._solve(potential, y)
            return solution.x, solution.residual / potential.strong_convexity()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log det ∇²φ(x), of shape ``batch``; an estimate above ``max_exact_dim``."""
        if self._exact:
            return _log_det(self.potential.hessian(x))
        return self._stochastic_log_det(self.potential.evaluated(), x)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇φ(x) and log det ∇²φ(x) from one pass."""
        potential = self.potential.evaluated()
        if not self._exact:
            y = potential.gradient(x)
            return self._remember(x, y), self._stochastic_log_det(potential, x)
        y, hessian = potential.gradient_and_hessian(x)
        return self._remember(x, y), _log_det(hessian)

    @full_precision()
    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (α, M): no pair of points is brought closer than α or further apart than M."""
        with torch.no_grad():
            potential = self.potential.evaluated()
            low, high = potential.strong_convexity(), potential.smoothness()
        if not low.numel():
            raise ArgumentError("the map is conditioned on 0 contexts: it has no bounds for none")
        return float(low.min()), float(high.max())

    def _stochastic_log_det(self, potential: ConvexPotential, x: Tensor) -> Tensor:
        shape = (*x.shape, self.num_probes)
        probes = torch.randint(0, 2, shape, device=x.device).to(x.dtype) * 2 - 1

        def operator(v: Tensor) -> Tensor:
            return potential.hessian_product(x, v)

        value = lanczos_log_det(operator, probes, self.lanczos_steps).mean(-1)
        if not torch.is_grad_enabled():
            return value
        tolerance = 4 * torch.finfo(x.dtype).eps
        solved = conjugate_gradient(operator, probes, tolerance=tolerance, max_steps=2 * self.dim)
        # ∂ log det H = tr(H⁻¹∂H) = E[(H⁻¹v)ᵀ ∂H v]: only the derivative of this term is wanted.
        surrogate = (solved * operator(probes)).sum(-2).mean(-1)
        return value + surrogate - surrogate.detach()

    def _versions(self, x: Tensor, y: Tensor) -> tuple[Any, ...]:
        """Return what changes whenever x, y, a parameter or a parameter's storage does."""
        tensors = (x, y, *self.potential.dependencies())
        return tuple(map(_upstream.version_of, tensors))

    def _remember(self, x: Tensor, y: Tensor) -> Tensor:
        if y.requires_grad and not _upstream.is_traced(y) and not x.is_inference():
            self._last = (weakref.ref(y), x, self._versions(x, y))
        return y

    def _recall(self, y: Tensor) -> Tensor | None:
        if self._last is None:
            return None
        image, x, versions = self._last
        return x if image() is y and versions == self._versions(x, y) else None

    def with_cache(self, cache_size: int = 1) -> Brenier:
        """Return a transform that shares the parameters; a torch cache could go stale, so none."""
        new = copy.copy(self)
        new._last = None
        return new

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "_last": None}


def _log_det(hessian: Tensor) -> Tensor:
    try:
        factor: Tensor = torch.linalg.cholesky(hessian)
    except LinAlgError as error:
        raise ArgumentError(
            f"the Jacobian of the map is not positive definite in {hessian.dtype}: it holds NaN, "
            "or smoothness / strong_convexity is beyond what this dtype resolves; use float64, or "
            "a smaller smoothness"
        ) from error
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def make_potential(
    dim: int,
    hidden_dims: Sequence[int] | None,
    *,
    strong_convexity: float,
    smoothness: float | None,
) -> ConvexPotential:
    """Return a ridge for one hidden layer (the default) and an ICNN for several."""
    if hidden_dims is not None and len(check_hidden_dims(hidden_dims)) > 1:
        return ICNN(dim, hidden_dims, strong_convexity=strong_convexity, smoothness=smoothness)
    return RidgePotential(
        dim, hidden_dims, strong_convexity=strong_convexity, smoothness=smoothness
    )


def brenier(
    input_dim: int,
    hidden_dims: Sequence[int] | None = None,
    *,
    strong_convexity: float = 0.1,
    smoothness: float | None = None,
    **options: Any,
) -> Brenier:
    """Make a :class:`Brenier` map of R^d, for flows and guides.

    Args:
        input_dim: dimension d.
        hidden_dims: ``[h]`` for a ridge potential (the default, h = max(64, d)); several widths
            for an ICNN.
        strong_convexity: floor α of the Jacobian's eigenvalues.
        smoothness: their ceiling M; None leaves it to the parameters.
        **options: further arguments of :class:`Brenier`.

    Example:
        >>> from functools import partial
        >>> from pyro.distributions.transforms import iterated
        >>> from pyro.infer.autoguide import AutoNormalizingFlow
        >>> from pyro_idvae.transforms import brenier
        >>> def guide(model):
        ...     return AutoNormalizingFlow(model, partial(iterated, 2, brenier))
    """
    check_options(Brenier, options)
    potential = make_potential(
        input_dim, hidden_dims, strong_convexity=strong_convexity, smoothness=smoothness
    )
    return Brenier(potential, **options)
