import pytest
import torch

from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.potentials import ICNN, PartiallyConvexPotential, RidgePotential


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"strong_convexity": 0.0}, "strong_convexity=0.0"),
        ({"strong_convexity": -1.0}, "strong_convexity=-1.0"),
        ({"strong_convexity": float("nan")}, "strong_convexity=nan"),
        ({"smoothness": 0.01}, "smoothness=0.01 is below strong_convexity"),
        ({"hidden_dims": []}, "hidden_dims"),
        ({"hidden_dims": "64"}, "hidden_dims"),
        ({"hidden_dims": [0]}, "hidden_dims entry=0"),
        ({"hidden_dims": [4, 4]}, "use ICNN"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ArgumentError, match=name.replace("[", r"\[")):
        RidgePotential(3, **arguments)


def test_bad_dimensions_are_named():
    with pytest.raises(ArgumentError, match="dim=0"):
        ICNN(0)
    with pytest.raises(ArgumentError, match="dim=2.5"):
        RidgePotential(2.5)
    with pytest.raises(ArgumentError, match="context_dim"):
        PartiallyConvexPotential(2, True)


def test_a_wrong_matrix_or_context_is_refused():
    potential = RidgePotential(3)
    with pytest.raises(ShapeError, match="matrix has shape"):
        potential.hessian_product(torch.zeros(2, 3), torch.zeros(2, 4, 1))
    with pytest.raises(ShapeError, match="context has shape"):
        PartiallyConvexPotential(2, 3).condition(torch.zeros(5, 2))
    with pytest.raises(ArgumentError, match="expected a torch.Tensor"):
        potential([1.0, 2.0, 3.0])


def test_repr_names_the_window():
    assert "strong_convexity=0.5" in repr(RidgePotential(3, strong_convexity=0.5))
