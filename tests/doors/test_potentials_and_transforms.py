"""Arguments that potentials and transforms refuse, and points that they cannot take."""

import numpy as np
import pytest
import torch

from pyro_idvae.errors import ArgumentError, ConvergenceError, NotInjectiveError, ShapeError
from pyro_idvae.potentials import (
    ICNN,
    PartiallyConvexPotential,
    QuadraticPotential,
    RidgePotential,
)
from pyro_idvae.transforms import (
    Brenier,
    BrenierInjection,
    ConditionalBrenier,
    Helmert,
    brenier,
    brenier_injection,
    conditional_brenier,
    injective_linear,
)
from tests.doors.common import told

f = brenier_injection(2, 5, hidden_dims=[8])

REFUSED = [
    (lambda: RidgePotential(0), ArgumentError, "dim=0: expected an integer of at least 1"),
    (lambda: RidgePotential(2.5), ArgumentError, "dim=2.5: expected an integer of at least 1"),
    (lambda: RidgePotential("a"), ArgumentError, "dim='a': expected an integer of at least 1"),
    (
        lambda: RidgePotential(3, hidden_dims=[]),
        ArgumentError,
        "hidden_dims=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: RidgePotential(3, hidden_dims=[0]),
        ArgumentError,
        "hidden_dims entry=0: expected an integer of at least 1",
    ),
    (
        lambda: RidgePotential(3, hidden_dims=8),
        ArgumentError,
        "hidden_dims=8: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: RidgePotential(3, hidden_dims=[8, 8]),
        ArgumentError,
        "hidden_dims=[8, 8]: a ridge has one hidden layer; use ICNN for more",
    ),
    (
        lambda: RidgePotential(3, strong_convexity=0),
        ArgumentError,
        "strong_convexity=0: expected a finite number above 0",
    ),
    (
        lambda: RidgePotential(3, strong_convexity=-1),
        ArgumentError,
        "strong_convexity=-1: expected a finite number above 0",
    ),
    (
        lambda: RidgePotential(3, strong_convexity=float("nan")),
        ArgumentError,
        "strong_convexity=nan: expected a finite number above 0",
    ),
    (
        lambda: RidgePotential(3, strong_convexity=2.0, smoothness=1.0),
        ArgumentError,
        "smoothness=1.0 is below strong_convexity=2.0: raise smoothness to at least 2 or",
    ),
    (
        lambda: RidgePotential(3, strong_convexity="a"),
        ArgumentError,
        "strong_convexity='a': expected a finite number above 0",
    ),
    (lambda: RidgePotential(True), ArgumentError, "dim=True: expected an integer of at least 1"),
    (
        lambda: RidgePotential(3)(np.zeros(3)),
        ArgumentError,
        "x is a ndarray: expected a torch.Tensor",
    ),
    (
        lambda: RidgePotential(3)(torch.zeros(4)),
        ShapeError,
        "x has shape (4,): expected the last dimension to be 3",
    ),
    (
        lambda: RidgePotential(3)(torch.zeros(3).long()),
        ArgumentError,
        "x has dtype torch.int64: pass x.float() or .double()",
    ),
    (
        lambda: RidgePotential(3)(torch.zeros(3).double()),
        ArgumentError,
        "x has dtype torch.float64 but the potential has torch.float32: convert one,",
    ),
    (
        lambda: RidgePotential(3).gradient(torch.zeros(2, 4)),
        ShapeError,
        "x has shape (2, 4): expected the last dimension to be 3",
    ),
    (
        lambda: RidgePotential(3).gradient(None),
        ArgumentError,
        "x is a NoneType: expected a torch.Tensor",
    ),
    (
        lambda: RidgePotential(3).hessian(torch.zeros(2, 4)),
        ShapeError,
        "x has shape (2, 4): expected the last dimension to be 3",
    ),
    (
        lambda: ICNN(3, hidden_dims=[]),
        ArgumentError,
        "hidden_dims=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: ICNN(3, hidden_dims=["a"]),
        ArgumentError,
        "hidden_dims entry='a': expected an integer of at least 1",
    ),
    (lambda: ICNN(0), ArgumentError, "dim=0: expected an integer of at least 1"),
    (
        lambda: ICNN(3)(torch.zeros(4)),
        ShapeError,
        "x has shape (4,): expected the last dimension to be 3",
    ),
    (lambda: QuadraticPotential(-1), ArgumentError, "dim=-1: expected an integer of at least 1"),
    (
        lambda: QuadraticPotential(3)(torch.zeros(4)),
        ShapeError,
        "x has shape (4,): expected the last dimension to be 3",
    ),
    (
        lambda: PartiallyConvexPotential(3, 0),
        ArgumentError,
        "context_dim=0: expected an integer of at least 1",
    ),
    (
        lambda: PartiallyConvexPotential(3, 2, hidden_dims=[3, 3]),
        ArgumentError,
        "hidden_dims=[3, 3]: a ridge has one hidden layer; use ICNN for more",
    ),
    (
        lambda: PartiallyConvexPotential(3, 2, context_hidden_dims=[]),
        ArgumentError,
        "hidden_dims=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: PartiallyConvexPotential(3, 2).condition(torch.zeros(3)),
        ShapeError,
        "context has shape (3,): expected the last dimension to be 2",
    ),
    (
        lambda: PartiallyConvexPotential(3, 2).condition(None),
        ArgumentError,
        "context is a NoneType: expected a torch.Tensor",
    ),
    (lambda: Brenier(3), ArgumentError, "potential is a int: pass ConvexPotential"),
    (lambda: Brenier(None), ArgumentError, "potential is a NoneType: pass ConvexPotential"),
    (
        lambda: Brenier(RidgePotential(3), tolerance=0),
        ArgumentError,
        "tolerance=0: expected a finite number above 0",
    ),
    (
        lambda: Brenier(RidgePotential(3), max_steps=0),
        ArgumentError,
        "max_steps=0: expected an integer of at least 1",
    ),
    (
        lambda: Brenier(RidgePotential(3), num_probes=0),
        ArgumentError,
        "num_probes=0: expected an integer of at least 1",
    ),
    (
        lambda: Brenier(RidgePotential(3), max_exact_dim=-1),
        ArgumentError,
        "max_exact_dim=-1: expected an integer of at least 0",
    ),
    (
        lambda: Brenier(RidgePotential(3), lanczos_steps=0),
        ArgumentError,
        "lanczos_steps=0: expected an integer of at least 1",
    ),
    (
        lambda: Brenier(RidgePotential(3))(torch.zeros(4)),
        ShapeError,
        "x has shape (4,): expected the last dimension to be 3",
    ),
    (
        lambda: Brenier(RidgePotential(3)).inv(torch.full((3,), float("nan"))),
        ConvergenceError,
        "Newton's method stopped after 0 steps with a relative residual of nan",
    ),
    (
        lambda: Brenier(RidgePotential(3)).inv(torch.zeros(4)),
        ShapeError,
        "y has shape (4,): expected the last dimension to be 3",
    ),
    (lambda: brenier(0), ArgumentError, "dim=0: expected an integer of at least 1"),
    (
        lambda: brenier(3, hidden_dims=[-1]),
        ArgumentError,
        "hidden_dims entry=-1: expected an integer of at least 1",
    ),
    (
        lambda: brenier(3, foo=1),
        ArgumentError,
        "['foo'] is no argument of Brenier: it takes potential, tolerance, max_steps,",
    ),
    (
        lambda: brenier(3, strong_convexity=-1.0),
        ArgumentError,
        "strong_convexity=-1.0: expected a finite number above 0",
    ),
    (
        lambda: brenier(3, strong_convexity=2.0, smoothness=1.0),
        ArgumentError,
        "smoothness=1.0 is below strong_convexity=2.0: raise smoothness to at least 2 or",
    ),
    (
        lambda: conditional_brenier(3, 0),
        ArgumentError,
        "context_dim=0: expected an integer of at least 1",
    ),
    (
        lambda: conditional_brenier(3, 2).condition(torch.zeros(4)),
        ShapeError,
        "context has shape (4,): expected the last dimension to be 2",
    ),
    (
        lambda: conditional_brenier(3, 2, foo=1),
        ArgumentError,
        "['foo'] is no argument of Brenier: it takes potential, tolerance, max_steps,",
    ),
    (
        lambda: ConditionalBrenier(RidgePotential(3)),
        ArgumentError,
        "potential is a RidgePotential: expected a PartiallyConvexPotential",
    ),
    (
        lambda: injective_linear(5, 2),
        NotInjectiveError,
        "latent_dim=5 is larger than data_dim=2: no smooth map from R^5 to R^2 is",
    ),
    (
        lambda: injective_linear(0, 2),
        ArgumentError,
        "latent_dim=0: expected an integer of at least 1",
    ),
    (
        lambda: injective_linear(2, 5, min_singular_value=0),
        ArgumentError,
        "min_singular_value=0: expected a finite number above 0",
    ),
    (
        lambda: injective_linear(2, 5, min_singular_value=2.0, max_singular_value=1.0),
        ArgumentError,
        "max_singular_value=1.0 is below min_singular_value=2.0: raise",
    ),
    (
        lambda: injective_linear(2, 5, foo=1),
        ArgumentError,
        "['foo'] is no argument of InjectiveLinear: it takes latent_dim, data_dim,",
    ),
    (
        lambda: injective_linear(2, 5)(torch.zeros(3)),
        ShapeError,
        "z has shape (3,): expected the last dimension to be 2",
    ),
    (
        lambda: injective_linear(2, 5).inv(torch.zeros(2)),
        ShapeError,
        "x has shape (2,): expected the last dimension to be 5",
    ),
    (
        lambda: brenier_injection(5, 2),
        NotInjectiveError,
        "latent_dim=5 is larger than data_dim=2: no smooth map from R^5 to R^2 is",
    ),
    (
        lambda: brenier_injection(2, 5, lipschitz_bounds=(0, 1)),
        ArgumentError,
        "lipschitz_bounds[0]=0: expected a finite number above 0",
    ),
    (
        lambda: brenier_injection(2, 5, lipschitz_bounds=(2.0, 1.0)),
        ArgumentError,
        "lipschitz_bounds[1]=1.0: expected a finite number of at least 2",
    ),
    (
        lambda: brenier_injection(2, 5, lipschitz_bounds=3.0),
        ArgumentError,
        "lipschitz_bounds=3.0: expected a pair of numbers (least, most)",
    ),
    (
        lambda: brenier_injection(2, 5, lipschitz_bounds=(1.0,)),
        ArgumentError,
        "lipschitz_bounds=(1.0,): expected a pair of numbers (least, most)",
    ),
    (
        lambda: brenier_injection(2, 5, lipschitz_bounds=("a", "b")),
        ArgumentError,
        "lipschitz_bounds[0]='a': expected a finite number above 0",
    ),
    (
        lambda: brenier_injection(2, 5, lipschitz_bounds=(1.0, 2.0), strong_convexity=1.0),
        ArgumentError,
        "lipschitz_bounds=(1.0, 2.0) sets every floor and ceiling: leave out",
    ),
    (
        lambda: brenier_injection(2, 5, min_singular_value=-1.0),
        ArgumentError,
        "min_singular_value=-1.0: expected a finite number above 0",
    ),
    (
        lambda: brenier_injection(2, 5, foo=3),
        ArgumentError,
        "['foo'] is no argument of Brenier: it takes potential, tolerance, max_steps,",
    ),
    (
        lambda: brenier_injection(2, 5, hidden_dims="abc"),
        ArgumentError,
        "hidden_dims='abc': expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: brenier_injection("a", 5),
        ArgumentError,
        "latent_dim='a': expected an integer of at least 1",
    ),
    (
        lambda: BrenierInjection(brenier(2), injective_linear(2, 5), brenier(4)),
        ShapeError,
        "g1 has dimension 2, beta maps 2 to 5 and g2 has dimension 4: g1 must have",
    ),
    (
        lambda: BrenierInjection(brenier(3), injective_linear(2, 5), brenier(5)),
        ShapeError,
        "g1 has dimension 3, beta maps 2 to 5 and g2 has dimension 5: g1 must have",
    ),
    (lambda: BrenierInjection(1, 2, 3), ArgumentError, "g1 is a int: expected a Brenier"),
    (
        lambda: f(torch.zeros(7, 3)),
        ShapeError,
        "z has shape (7, 3): expected the last dimension to be 2",
    ),
    (lambda: f(np.zeros((7, 2))), ArgumentError, "z is a ndarray: expected a torch.Tensor"),
    (
        lambda: f.inv(torch.zeros(7, 3)),
        ShapeError,
        "y has shape (7, 3): expected the last dimension to be 5",
    ),
    (
        lambda: f.project(torch.zeros(7, 3)),
        ShapeError,
        "x has shape (7, 3): expected the last dimension to be 5",
    ),
    (
        lambda: Helmert()(torch.tensor(1.0)),
        ShapeError,
        "u has shape (): expected a last dimension of at least 1",
    ),
    (
        lambda: Helmert().inv(torch.zeros(3, 1)),
        ShapeError,
        "logits has shape (3, 1): expected a last dimension of at least 2",
    ),
    (
        lambda: f.project(torch.zeros(7, 5), max_steps=0),
        ArgumentError,
        "max_steps=0: expected an integer of at least 1",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_bad_arguments_are_named(call, kind, message):
    told(call, kind, message)
