import pytest
import torch

from pyro_idvae.errors import ArgumentError, NotInjectiveError, ShapeError
from pyro_idvae.testing.checks import relative_error
from pyro_idvae.transforms import (
    BrenierInjection,
    Helmert,
    InjectiveLinear,
    brenier,
    brenier_injection,
)


@pytest.mark.parametrize("bounds", [(0.5, 8.0), (1.0, 1.0), (3.0, 4.0)])
def test_a_wanted_window_is_built_and_kept(bounds):
    injection = brenier_injection(2, 5, hidden_dims=[16], lipschitz_bounds=bounds).double()
    for _ in range(3):
        assert injection.lipschitz_bounds() == pytest.approx(bounds, rel=1e-12)
        with torch.no_grad():
            for parameter in injection.parameters():
                parameter.add_(torch.randn_like(parameter))


def test_the_default_floors_carry_a_useful_bound():
    injection = brenier_injection(16, 64)
    low, high = injection.lipschitz_bounds()
    assert 1.0 <= low < high
    with torch.no_grad():
        for name, parameter in injection.named_parameters():
            if name.endswith(("raw_excess", "raw_singular")):
                parameter.fill_(-50.0)
    assert injection.lipschitz_bounds()[0] == pytest.approx(1.0)


def test_more_latent_than_data_dimensions_are_refused():
    with pytest.raises(NotInjectiveError, match="latent_dim=5 is larger than data_dim=3"):
        brenier_injection(5, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strong_convexity": -1.0}, "strong_convexity=-1.0"),
        ({"min_singular_value": 0.0}, "min_singular_value=0.0"),
        ({"smoothness": 0.5}, "smoothness=0.5 is below"),
        ({"max_singular_value": 0.5}, "max_singular_value=0.5 is below"),
        ({"lipschitz_bounds": (0.0, 1.0)}, r"lipschitz_bounds\[0\]"),
        ({"lipschitz_bounds": (2.0, 1.0)}, r"lipschitz_bounds\[1\]"),
        ({"lipschitz_bounds": (1.0, 2.0), "smoothness": 3.0}, "leave out smoothness"),
    ],
)
def test_bad_windows_are_named(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        brenier_injection(2, 5, **arguments)


def test_parts_must_fit():
    with pytest.raises(ShapeError, match="beta maps 2 to 5"):
        BrenierInjection(brenier(3), InjectiveLinear(2, 5), brenier(5))
    with pytest.raises(ShapeError, match="expected the last dimension to be 2"):
        brenier_injection(2, 5).forward_shape((4, 3))


def test_the_basis_is_smooth_where_a_plain_qr_flips_its_sign():
    linear = InjectiveLinear(1, 2).double()
    bases = []
    for angle in torch.linspace(0, 6.28, 200, dtype=torch.double):
        with torch.no_grad():
            linear.raw_basis.copy_(torch.stack([angle.cos(), angle.sin()]).unsqueeze(-1))
        bases.append(linear.basis().detach())
    steps = torch.stack(bases).diff(dim=0).norm(dim=(1, 2))
    assert steps.max() <= 0.05


@pytest.mark.parametrize("categories", [2, 3, 10, 1000])
def test_helmert_is_an_isometry_onto_the_zero_sum_vectors(categories):
    transform = Helmert()
    u = torch.randn(2, 3, categories - 1, dtype=torch.double)
    y = transform(u)
    assert y.shape == (2, 3, categories)
    assert transform.forward_shape(u.shape) == y.shape
    assert transform.inverse_shape(y.shape) == u.shape
    assert y.sum(-1).abs().max() <= 1e-10
    assert relative_error(y.norm(dim=-1), u.norm(dim=-1)) <= 1e-12
    assert relative_error(transform.inv(y), u) <= 1e-12
    assert relative_error(transform.inv(y + 7.0), u) <= 1e-10
    assert transform.log_abs_det_jacobian(u, y).shape == (2, 3)
    assert transform.lipschitz_bounds() == (1.0, 1.0)
    assert transform == Helmert()
    assert hash(transform) == hash(Helmert())
    assert transform.with_cache() is transform


def test_helmert_matches_scipys_matrix():
    from scipy.linalg import helmert

    u = torch.randn(6, dtype=torch.double)
    wanted = -torch.as_tensor(helmert(7)).T @ u
    assert torch.allclose(Helmert()(u), wanted) or torch.allclose(Helmert()(u), -wanted)


def test_helmert_refuses_what_it_cannot_map():
    with pytest.raises(ShapeError, match="logits has shape"):
        Helmert().inv(torch.zeros(3, 1))
    with pytest.raises(ArgumentError, match=r"pass u\.float\(\)"):
        Helmert()(torch.zeros(3, dtype=torch.long))


def test_another_dtype_than_the_maps_is_refused_by_name():
    for transform in (InjectiveLinear(2, 3), brenier_injection(2, 3, hidden_dims=[4])):
        with pytest.raises(ArgumentError, match="has dtype torch.float64"):
            transform(torch.zeros(4, 2, dtype=torch.double))
        with pytest.raises(ArgumentError, match="has dtype torch.float64"):
            transform.inv(torch.zeros(4, 3, dtype=torch.double))
