"""Our matrix-free algebra against dense algebra and SciPy's."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, cg

from pyro_idvae.testing.checks import relative_error
from pyro_idvae.transforms.iterative import conjugate_gradient, lanczos_log_det

EPS = torch.finfo(torch.double).eps


def spd(*batch, dim, floor=0.05):
    root = torch.randn(*batch, dim, dim, dtype=torch.double)
    return root @ root.mT / dim + floor * torch.eye(dim, dtype=torch.double)


def multiply(matrix):
    return lambda v: matrix @ v


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dim", [1, 7, 60])
def test_conjugate_gradients_solve_as_well_as_a_dense_factorisation(dim, batch):
    matrix = spd(*batch, dim=dim)
    right = torch.randn(*batch, dim, 4, dtype=torch.double)
    wanted = torch.linalg.solve(matrix, right)
    found = conjugate_gradient(multiply(matrix), right, tolerance=4 * EPS, max_steps=4 * dim)
    assert relative_error(found, wanted) <= 1e-12


def test_each_column_is_solved_to_its_own_scale():
    matrix = spd(dim=40)
    scales = torch.tensor([1e-9, 1.0, 1e6, 0.0], dtype=torch.double)
    right = scales * torch.randn(40, 4, dtype=torch.double)
    found = conjugate_gradient(multiply(matrix), right, tolerance=4 * EPS, max_steps=160)
    wanted = torch.linalg.solve(matrix, right)
    for column in range(3):
        assert relative_error(found[:, column], wanted[:, column]) <= 1e-12
    assert not found[:, 3].any()


def test_each_row_has_its_own_tolerance_and_stops_there():
    matrix = spd(2, dim=50, floor=1e-3)
    right = torch.randn(2, 50, 1, dtype=torch.double)
    tolerance = torch.tensor([1e-1, 1e-11], dtype=torch.double)[:, None, None]
    found = conjugate_gradient(multiply(matrix), right, tolerance=tolerance, max_steps=500)
    residual = (matrix @ found - right).norm(dim=-2) / right.norm(dim=-2)
    assert 1e-11 < residual[0] <= 1e-1
    assert residual[1] <= 1e-10


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_every_step_is_scipys(steps):
    matrix, right = spd(dim=30), torch.randn(30, 1, dtype=torch.double)
    operator = LinearOperator((30, 30), matvec=lambda v: matrix.numpy() @ v, dtype=np.float64)
    wanted, _ = cg(operator, right[:, 0].numpy(), rtol=1e-14, maxiter=steps)
    found = conjugate_gradient(multiply(matrix), right, tolerance=1e-14, max_steps=steps)
    assert relative_error(found[:, 0], torch.as_tensor(wanted)) <= 1e-9


def test_no_graph_is_left():
    matrix = spd(dim=5).requires_grad_()
    right = torch.randn(5, 1, dtype=torch.double, requires_grad=True)
    found = conjugate_gradient(multiply(matrix), right, tolerance=1e-12, max_steps=20)
    assert not found.requires_grad
    assert not lanczos_log_det(multiply(matrix), right, 5).requires_grad


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dim", [1, 6, 40])
def test_the_quadrature_is_exact_with_as_many_steps_as_dimensions(dim, batch):
    """A basis of probes sums to the trace of the logarithm: the dense log-determinant."""
    matrix = spd(*batch, dim=dim)
    probes = torch.eye(dim, dtype=torch.double).expand(*batch, dim, dim)
    found = lanczos_log_det(multiply(matrix), probes, dim).sum(-1)
    assert relative_error(found, torch.linalg.slogdet(matrix).logabsdet) <= 1e-10


def test_few_steps_and_random_signs_are_unbiased():
    matrix = spd(dim=80, floor=1.0)
    probes = torch.randint(0, 2, (80, 2000)).double() * 2 - 1
    found = lanczos_log_det(multiply(matrix), probes, 20)
    error = found.std() / 2000**0.5
    assert (found.mean() - torch.linalg.slogdet(matrix).logabsdet).abs() <= 4 * error
