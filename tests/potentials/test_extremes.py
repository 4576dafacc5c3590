"""Convex parts that underflow to nothing: bounds, values and derivatives stay numbers."""

import pytest
import torch

from pyro_idvae.potentials import ICNN, PartiallyConvexPotential, QuadraticPotential, RidgePotential

WINDOW = {"strong_convexity": 0.5, "smoothness": 1e4}
MAKERS = {
    "ridge": lambda **window: RidgePotential(3, [4], **window),
    "icnn": lambda **window: ICNN(3, [4, 2], **window),
    "quadratic": lambda **window: QuadraticPotential(3, **window),
    "partially convex": lambda **window: PartiallyConvexPotential(3, 2, [4], **window),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("window", [{}, WINDOW])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("exponent", [-800.0, -95.0, -40.0])
def test_a_flat_convex_part_leaves_numbers(kind, window, dtype, exponent):
    potential = MAKERS[kind](**window).to(dtype)
    with torch.no_grad():
        for name, parameter in potential.named_parameters():
            if name in ("raw_out", "root"):
                parameter.fill_(exponent if name == "raw_out" else 10.0**exponent)
    arguments = (torch.ones(5, 2, dtype=dtype),) if kind == "partially convex" else ()
    x = torch.randn(5, 3, dtype=dtype)
    low, high = (bound(*arguments) for bound in (potential.strong_convexity, potential.smoothness))
    assert bool((low > 0).all())
    assert bool((high <= (1 + 1e-5) * 1e4).all())
    gradient = potential.gradient(x, *arguments)
    assert bool(((gradient - low.unsqueeze(-1) * x).isfinite()).all())
    (high.sum() + low.sum() + gradient.sum() + potential(x, *arguments).sum()).backward()
    for name, parameter in potential.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name
