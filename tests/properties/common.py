"""What the properties have in common: how they are searched, random potentials, errors."""

from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pyro_idvae.potentials import (
    ICNN,
    PartiallyConvexPotential,
    QuadraticPotential,
    RidgePotential,
)


def searched(examples):
    """Return settings for so many examples, the same in each run, however long one takes."""
    return settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


DTYPES = st.sampled_from([torch.float32, torch.float64])
BATCHES = st.sampled_from([(), (0,), (3,), (2, 3)])
SEEDS = st.integers(0, 2**31)


def powers(low, high):
    """Return a strategy of powers of ten."""
    return st.integers(2 * low, 2 * high).map(lambda half: 10.0 ** (half / 2))


class Case(NamedTuple):
    """A potential with parameters of some size, and points."""

    potential: Any
    x: torch.Tensor
    y: torch.Tensor
    eps: float

    def reach(self, *points):
        """Return what each entry of a gradient at these points is rounded relative to, by row.

        A gradient is a sum whose terms are as large as M times the distance from where the units
        bend, and that is no further from 0 than some hundreds.
        """
        far = sum(point.norm(dim=-1) for point in points) + 300.0
        return self.potential.smoothness().detach() * far


def enlarge(module, size):
    """Multiply the parameters, with some noise where they start at 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter)).mul_(size)


@st.composite
def windows(draw):
    """Return a floor and perhaps a ceiling."""
    floor = draw(powers(-4, 1))
    ceiling = draw(st.sampled_from([None, 1.0, 3.0, 1e4]))
    return {"strong_convexity": floor, "smoothness": ceiling and floor * ceiling}


@st.composite
def cases(draw, kinds=("ridge", "icnn", "quadratic", "partially convex"), size=(-3, 3)):
    """Return a :class:`Case` of any of these potentials."""
    kind, dtype = draw(st.sampled_from(kinds)), draw(DTYPES)
    dim, batch = draw(st.integers(1, 8)), draw(BATCHES)
    widths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    window, scale = draw(windows()), draw(powers(-6, 6))
    amount = draw(powers(*size))
    torch.manual_seed(draw(SEEDS))
    x, y = scale * torch.randn(2, *batch, dim, dtype=torch.double)
    if kind == "ridge":
        potential = RidgePotential(dim, widths[:1], **window)
    elif kind == "icnn":
        potential = ICNN(dim, widths, **window)
    elif kind == "quadratic":
        potential = QuadraticPotential(dim, **window)
    else:
        potential = PartiallyConvexPotential(dim, 2, widths[:1], context_hidden_dims=[4], **window)
    enlarge(potential, amount)
    potential = potential.to(dtype)
    if kind == "partially convex":
        potential = potential.condition(torch.randn(*batch, 2).to(dtype))
    return Case(potential, x.to(dtype), y.to(dtype), torch.finfo(dtype).eps)
