import math

import pytest
import torch

from pyro_idvae.errors import ArgumentError, ConvergenceError
from pyro_idvae.testing.checks import relative_error
from pyro_idvae.transforms import brenier
from pyro_idvae.transforms.newton import invert_gradient


@pytest.mark.parametrize("hidden_dims", [[64], [32, 32]])
@pytest.mark.parametrize("dim", [1, 2, 8, 64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_twenty_steps_reach_1e_10(dim, scale, hidden_dims):
    potential = brenier(dim, hidden_dims).double().potential
    y = scale * torch.randn(40, dim, dtype=torch.double)
    for exact in (True, False):
        solution = invert_gradient(potential, y, exact=exact)
        assert solution.steps <= 20
        reference = y.norm(dim=-1) + potential.gradient(torch.zeros_like(y)).norm(dim=-1)
        assert (solution.residual / reference).max().item() <= 1e-10


def test_the_error_bound_holds():
    transform = brenier(3, [16]).double()
    x = torch.randn(20, 3, dtype=torch.double)
    found, bound = transform.inverse_with_error(transform(x).detach())
    rounding = 1e-13
    assert ((found - x).norm(dim=-1) <= bound + rounding).all()
    rough = brenier(3, [16], tolerance=0.5, max_steps=1).double()
    rough.load_state_dict(transform.state_dict())
    far = torch.tensor([[0.3, 0.1, -0.2]], dtype=torch.double)
    found, bound = rough.inverse_with_error(rough(far).detach())
    assert (found - far).norm(dim=-1) > rounding
    assert (found - far).norm(dim=-1) <= bound


@pytest.mark.parametrize("max_exact_dim", [0, 100])
def test_implicit_gradients_pass_gradcheck(max_exact_dim):
    transform = brenier(3, [8], max_exact_dim=max_exact_dim).double()
    y = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    names, values = zip(*transform.named_parameters(), strict=True)

    def inverse(y, *parameters):
        return torch.func.functional_call(
            InverseModule(transform),
            dict(zip([f"t.{n}" for n in names], parameters, strict=True)),
            y,
        )

    assert torch.autograd.gradcheck(inverse, (y, *values))


class InverseModule(torch.nn.Module):
    def __init__(self, transform):
        super().__init__()
        self.t = transform

    def forward(self, y):
        return self.t.inv(y)


def test_no_convergence_is_a_typed_error():
    transform = brenier(3, [16], max_steps=1, tolerance=1e-14).double()
    with pytest.raises(ConvergenceError, match="stopped after 1 steps") as caught:
        transform.inv(torch.full((5, 3), 100.0, dtype=torch.double))
    assert caught.value.steps == 1
    assert caught.value.residual > 1e-14
    with pytest.raises(ConvergenceError, match="not finite"):
        transform.inv(torch.full((5, 3), float("nan"), dtype=torch.double))


def test_bad_options_are_named():
    with pytest.raises(ArgumentError, match="tolerance=0"):
        brenier(2, tolerance=0.0)
    with pytest.raises(ArgumentError, match="max_steps=0"):
        brenier(2, max_steps=0)
    with pytest.raises(ArgumentError, match="potential is a Linear"):
        type(brenier(2))(torch.nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("dim", [5, 40])
def test_the_stochastic_log_det_and_its_gradient_are_unbiased(dim):
    exact = brenier(dim, [2 * dim]).double()
    probes = 4000
    rough = brenier(dim, [2 * dim], max_exact_dim=0, num_probes=probes).double()
    rough.load_state_dict(exact.state_dict())
    x = torch.randn(dim, dtype=torch.double)

    def value_and_grad(transform):
        value = transform.log_abs_det_jacobian(x)
        weight = transform.potential.weight
        return value.detach(), torch.autograd.grad(value, weight)[0]

    wanted, wanted_grad = value_and_grad(exact)
    runs = [value_and_grad(rough) for _ in range(6)]
    values = torch.stack([value for value, _ in runs])
    error = values.std() / len(runs) ** 0.5
    assert (values.mean() - wanted).abs() <= 5 * error + 1e-9
    # The direction of the exact gradient, where the estimate's own spread is known.
    direction = wanted_grad / wanted_grad.norm()
    along = torch.stack([(grad * direction).sum() for _, grad in runs])
    error = along.std() / len(runs) ** 0.5
    assert (along.mean() - wanted_grad.norm()).abs() <= 5 * error + 1e-9
    assert error <= 0.05 * wanted_grad.norm()


def test_lanczos_survives_an_invariant_subspace():
    from pyro_idvae.transforms.iterative import lanczos_log_det

    probes = torch.ones(2, 4, 3, dtype=torch.double)
    value = lanczos_log_det(lambda v: 2.0 * v, probes, 4)
    assert relative_error(value, torch.full((2, 3), 4 * math.log(2), dtype=torch.double)) <= 1e-12


def test_the_stochastic_path_is_complete():
    transform = brenier(6, [12], max_exact_dim=3).double()
    x = torch.randn(4, 6, dtype=torch.double)
    y, log_det = transform.call_and_ladj(x)
    assert log_det.shape == (4,)
    assert relative_error(transform.inv(y.detach()), x) <= 1e-9
    with torch.no_grad():
        assert not transform.log_abs_det_jacobian(x).requires_grad


def test_a_hessian_that_rounding_makes_indefinite_is_no_raw_error():
    """Nearly flat in two directions of three, to the last digit of single precision."""
    steep = brenier(3, hidden_dims=[1], strong_convexity=1e-4)
    with torch.no_grad():
        steep.potential.raw_excess.fill_(-50.0)
        steep.potential.weight.mul_(1e4)
    x = torch.randn(20, 3)
    hessian = steep.potential.hessian(x).detach()
    assert bool((torch.linalg.cholesky_ex(hessian)[1] > 0).any())
    y = steep(x).detach()
    try:
        found = steep.inv(y)
    except ConvergenceError as error:
        assert error.residual > 0  # noqa: PT017
    else:
        assert bool(found.isfinite().all())
    with pytest.raises(ArgumentError, match="not positive definite in torch.float32"):
        steep.call_and_ladj(x)
    double = steep.double()
    back = double.inv(double(x.double()).detach())
    assert (back - x).abs().max() < 1e-3
    assert bool(double.log_abs_det_jacobian(x.double()).isfinite().all())
