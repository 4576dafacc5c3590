"""Maps of any size, shape, scale and dtype: inverses, volumes, Lipschitz bounds, refusals."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_idvae.errors import ArgumentError, ConvergenceError, ShapeError
from pyro_idvae.transforms import (
    brenier,
    brenier_injection,
    conditional_brenier,
    injective_linear,
)
from tests.properties.common import BATCHES, DTYPES, SEEDS, enlarge, powers, searched, windows


class Map(NamedTuple):
    """A map with parameters of some size, and pairs of points."""

    transform: Any
    x: torch.Tensor
    other: torch.Tensor
    eps: float

    def size(self, *points):
        """Return what a value at these points is rounded relative to, by row."""
        far = sum(point.norm(dim=-1) for point in points)
        return self.transform(torch.zeros_like(self.x)).norm(dim=-1) + self.high * (far + 300.0)

    @property
    def low(self):
        return self.transform.lipschitz_bounds()[0]

    @property
    def high(self):
        return self.transform.lipschitz_bounds()[1]


@st.composite
def maps(
    draw,
    kinds=("brenier", "conditional", "linear", "injection", "window"),
    scales=(-6, 6),
    dtypes=DTYPES,
    batches=BATCHES,
):
    """Return a :class:`Map` of any of these kinds."""
    kind, dtype, batch = draw(st.sampled_from(kinds)), draw(dtypes), draw(batches)
    latent_dim = draw(st.integers(1, 5))
    data_dim = latent_dim + draw(st.integers(0, 3))
    widths = draw(st.lists(st.integers(1, 10), min_size=1, max_size=2))
    window, scale, size = draw(windows()), draw(powers(*scales)), draw(powers(-3, 3))
    torch.manual_seed(draw(SEEDS))
    if kind == "brenier":
        transform = brenier(latent_dim, widths, **window)
    elif kind == "conditional":
        transform = conditional_brenier(
            latent_dim, 2, widths[:1], context_hidden_dims=[4], **window
        )
    elif kind == "linear":
        floor, ceiling = window.values()
        transform = injective_linear(
            latent_dim, data_dim, min_singular_value=floor, max_singular_value=ceiling
        )
    elif kind == "injection":
        transform = brenier_injection(latent_dim, data_dim, widths)
    else:
        transform = brenier_injection(latent_dim, data_dim, widths, lipschitz_bounds=(0.5, 20.0))
    enlarge(transform, size)
    transform = transform.to(dtype)
    if kind == "conditional":
        transform = transform.condition(torch.randn(*batch, 2).to(dtype))
    x, other = (scale * torch.randn(2, *batch, latent_dim, dtype=torch.double)).to(dtype)
    return Map(transform, x, other, torch.finfo(dtype).eps)


@searched(80)
@given(maps(batches=st.sampled_from([(), (3,), (2, 3)])))
def test_the_inverse_undoes_the_map(case):
    with torch.no_grad():
        y = case.transform(case.x)
        try:
            back = case.transform.inv(y)
        except ConvergenceError:
            # Nearly flat in some direction to this dtype's last digit, or out of its range.
            assert case.high / case.low * case.eps > 1e-3 or case.high**2 > 1e30
            return
        again = case.transform(back)
    assert y.shape == case.transform.forward_shape(case.x.shape)
    assert back.shape == case.x.shape
    assert back.dtype == y.dtype == case.x.dtype
    # The tolerance of the inverse, at each of its two solutions, and rounding.
    allowed = 4 * case.eps**0.64 + 100 * case.eps
    assert bool(((again - y).norm(dim=-1) <= allowed * case.size(case.x)).all())
    error = (back - case.x).norm(dim=-1)
    assert bool((case.low * error <= allowed * case.size(case.x)).all())


@searched(80)
@given(maps(scales=(-3, 3), dtypes=st.just(torch.float64)))
def test_the_volume_is_that_of_autograds_jacobian(case):
    x = case.x
    try:
        y, volume = case.transform.call_and_ladj(x)
    except ArgumentError:
        assert case.high / case.low * case.eps > 1e-3
        return
    again = case.transform.log_abs_det_jacobian(x, y)
    assert volume.shape == again.shape == x.shape[:-1]
    if not x.numel():
        return
    # One gradient for each output, since a context belongs to its own row.
    leaf = x.clone().requires_grad_()
    images = case.transform(leaf)
    rows = [
        torch.autograd.grad(images[..., i].sum(), leaf, retain_graph=True)[0]
        for i in range(images.shape[-1])
    ]
    jacobian = torch.stack(rows, -2)
    wanted = 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian)[1]
    allowed = 1e-9 * (1 + wanted.abs()) + 1e-14 * x.shape[-1] * (case.high / case.low) ** 2
    assert bool(((volume - wanted).abs() <= allowed).all())
    assert bool(((volume - again).abs() <= allowed).all())


@searched(80)
@given(maps(batches=st.sampled_from([(), (3,), (2, 3)])))
def test_no_pair_beats_the_lipschitz_bounds(case):
    with torch.no_grad():
        moved = (case.transform(case.x) - case.transform(case.other)).double().norm(dim=-1)
    apart = (case.x - case.other).norm(dim=-1)
    rounding = 300 * case.eps * case.size(case.x, case.other)
    assert 0 < case.low <= case.high
    assert bool((moved >= case.low * apart - rounding).all())
    assert bool((moved <= case.high * apart + rounding).all())


@searched(40)
@given(maps())
def test_another_length_or_kind_of_vector_is_refused(case):
    dim = case.x.shape[-1]
    for shape in ((*case.x.shape[:-1], dim + 1), (), (3, 0)):
        with pytest.raises(ShapeError, match="expected the last dimension"):
            case.transform(case.x.new_zeros(shape))
        with pytest.raises(ShapeError, match="expected the last dimension"):
            case.transform.inv(case.x.new_zeros((*shape[:-1], 20) if shape else shape))
    with pytest.raises(ArgumentError, match="has dtype"):
        case.transform(torch.zeros(3, dim, dtype=torch.long))
    wrong = torch.float32 if case.x.dtype == torch.float64 else torch.float64
    with pytest.raises(ArgumentError, match="has dtype"):
        case.transform(case.x.to(wrong))
    with pytest.raises(ArgumentError, match="has dtype"):
        case.transform.inv(torch.zeros(case.transform.forward_shape((3, dim)), dtype=wrong))


def test_maps_of_no_rows():
    for transform in (brenier(3), injective_linear(3, 5), brenier_injection(3, 5)):
        y, volume = transform.call_and_ladj(torch.zeros(0, 3))
        assert (len(y), volume.shape) == (0, (0,))
        assert transform.inv(y).shape == (0, 3)
    conditioned = conditional_brenier(3, 2).condition(torch.zeros(0, 2))
    assert conditioned.inv(conditioned(torch.zeros(0, 3))).shape == (0, 3)
    with pytest.raises(ArgumentError, match="0 contexts"):
        conditioned.lipschitz_bounds()
