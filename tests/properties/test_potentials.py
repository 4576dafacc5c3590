"""Potentials of any size, shape, scale and dtype: what holds of every convex function."""

import torch
from hypothesis import given

from tests.properties.common import cases, searched

ROUNDINGS = 300.0


@searched(120)
@given(cases())
def test_gradient_is_finite_and_that_of_the_value(case):
    x = case.x.clone().requires_grad_()
    value = case.potential(x)
    gradient = case.potential.gradient(case.x).detach()
    assert value.shape == x.shape[:-1]
    assert gradient.shape == x.shape
    assert gradient.dtype == value.dtype == x.dtype
    assert bool(gradient.isfinite().all())
    assert bool(value.isfinite().all())
    (wanted,) = torch.autograd.grad(value.sum(), x)
    error = (gradient - wanted).norm(dim=-1)
    assert bool((error <= ROUNDINGS * case.eps * case.reach(case.x)).all())


@searched(120)
@given(cases())
def test_hessian_is_symmetric_and_within_the_bounds(case):
    hessian = case.potential.hessian(case.x).detach()
    low = case.potential.strong_convexity().detach()
    high = case.potential.smoothness().detach()
    assert bool((low > 0).all())
    assert bool((low <= high).all())
    assert bool(high.isfinite().all())
    assert bool(hessian.isfinite().all())
    rounding = ROUNDINGS * case.eps * high
    assert bool(((hessian - hessian.mT).abs().amax((-1, -2)) <= rounding).all())
    values = torch.linalg.eigvalsh(hessian)
    assert bool((values[..., 0] >= low - rounding).all())
    assert bool((values[..., -1] <= high + rounding).all())
    product = case.potential.hessian_product(case.x, torch.eye(case.x.shape[-1]).to(case.x))
    assert bool(((product - hessian).abs().amax((-1, -2)) <= rounding).all())


@searched(120)
@given(cases())
def test_values_lie_above_tangents_and_gradients_are_monotone(case):
    x, y = case.x, case.y
    step = (y - x).norm(dim=-1)
    alpha, high = case.potential.strong_convexity(), case.potential.smoothness()
    slope = case.potential.gradient(x)
    gap = case.potential(y) - case.potential(x) - (slope * (y - x)).sum(-1)
    reach = case.reach(x, y)
    rounding = ROUNDINGS * case.eps * reach * (reach / high)
    assert bool((gap >= 0.5 * alpha * step.square() - rounding).all())
    assert bool((gap <= 0.5 * high * step.square() + rounding).all())
    turn = ((case.potential.gradient(y) - slope) * (y - x)).sum(-1)
    rounding = ROUNDINGS * case.eps * reach * step
    assert bool((turn >= alpha * step.square() - rounding).all())
    assert bool((turn <= high * step.square() + rounding).all())


@searched(60)
@given(cases())
def test_training_never_meets_a_gradient_that_is_no_number(case):
    """Of the parameters, in values, gradients and bounds."""
    potential = getattr(case.potential, "_potential", (case.potential,))[0]
    total = case.potential(case.x).sum() + case.potential.gradient(case.x).sum()
    total = total + case.potential.smoothness().sum() + case.potential.strong_convexity().sum()
    total.backward()
    for name, parameter in potential.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name
