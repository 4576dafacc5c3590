"""Classes are abstract, or what they define is final: all over these layers, and enforced."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from pyro.nn import PyroModule

import pyro_idvae
from pyro_idvae._abstract import AbstractOrFinal, may_override, must_write, names_with, overrides
from pyro_idvae.distributions import (
    Family,
    InjectiveLikelihood,
    InjectiveNormal,
    Likelihood,
    NormalFamily,
)
from pyro_idvae.potentials import ConvexPotential, LearnablePotential, RidgePotential
from pyro_idvae.transforms import Brenier, Injection, injective_linear

LAYERS = ("potentials", "transforms", "distributions", "models", "testing")


def classes():
    for layer in LAYERS:
        package = importlib.import_module(f"pyro_idvae.{layer}")
        for entry in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(entry.name)
            for _, cls in inspect.getmembers(module, inspect.isclass):
                if cls.__module__ == entry.name:
                    yield cls


CLASSES = sorted(classes(), key=lambda cls: (cls.__module__, cls.__name__))


def is_ours(cls):
    return cls.__module__.startswith(f"{pyro_idvae.__name__}.") and cls is not AbstractOrFinal


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_only_what_may_be_overridden_is(cls):
    assert not list(overrides(cls, is_ours))


def test_the_walk_meets_the_classes():
    assert {ConvexPotential, RidgePotential, Brenier, NormalFamily} <= set(CLASSES)
    assert len(CLASSES) > 50


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Injection(2, 5), ["_call", "_inverse", "jacobian", "lipschitz_bounds"]),
        (Family, ["forward"]),
        (
            lambda: Likelihood(NormalFamily(), 2, 3),
            ["eta", "information_bounds", "lipschitz_bounds"],
        ),
        (lambda: InjectiveLikelihood(injective_linear(2, 5), NormalFamily()), ["__init__"]),
        (
            lambda: ConvexPotential(3),
            [
                "forward",
                "gradient",
                "gradient_and_hessian",
                "hessian_product",
                "smoothness",
                "strong_convexity",
            ],
        ),
        (
            lambda: LearnablePotential(3),
            [
                "_curvature_bounds",
                "_gradient",
                "_gradient_and_hessian",
                "_hessian_product",
                "_value",
            ],
        ),
    ],
)
def test_abstract_classes_name_what_is_missing(make, names):
    with pytest.raises(TypeError, match="is abstract: a subclass must write " + ", ".join(names)):
        make()


def test_a_half_written_subclass_names_the_rest():
    class Half(Injection):
        def _call(self, x):
            return x

        def jacobian(self, z):
            return torch.eye(2)

    with pytest.raises(TypeError, match="Half is abstract: .* _inverse, lipschitz_bounds$"):
        Half(2, 2)
    with pytest.raises(TypeError, match="abstract"):
        PyroModule[Half](2, 2)


@pytest.mark.parametrize(
    ("base", "name", "allowed"),
    [
        (RidgePotential, "_gradient", "dependencies, evaluated, extra_repr"),
        (RidgePotential, "strong_convexity", "dependencies, evaluated"),
        (LearnablePotential, "_checked", "_curvature_bounds, _gradient"),
        (Brenier, "_call", "nothing"),
        (Brenier, "dim", "nothing"),
        (Injection, "project", "_call, _inverse, call_and_ladj, jacobian"),
        (Family, "set_global", "bhattacharyya, capped_rates, check_support, eta_of_mean"),
        (NormalFamily, "bhattacharyya", "capped_rates, check_support"),
        (InjectiveLikelihood, "eta", "__init__, information_bounds"),
        (InjectiveNormal, "eta", "nothing"),
        (InjectiveNormal, "information_bounds", "nothing"),
        (Likelihood, "condition", "eta, information_bounds, lipschitz_bounds"),
    ],
)
def test_what_is_final_cannot_be_overridden(base, name, allowed):
    words = f"Mine overrides {name}, .* a subclass of {base.__name__} may override {allowed}"
    with pytest.raises(TypeError, match=words):
        type(base)("Mine", (base,), {name: lambda self, *args: None})


def test_a_mixin_cannot_override_either():
    class Mixin:
        def eta(self, z):
            return 0 * z

    with pytest.raises(TypeError, match="Mixin overrides eta"):

        class Mine(Mixin, InjectiveNormal):
            pass


def test_a_pyro_module_made_of_a_class_keeps_its_rules():
    made = PyroModule[RidgePotential]
    assert issubclass(made, RidgePotential)
    assert isinstance(made(3), PyroModule)
    with pytest.raises(TypeError, match="_value, which is final in RidgePotential"):

        class Mine(PyroModule[RidgePotential]):
            def _value(self, x):
                return x


def test_what_a_subclass_may_do():
    class Noisy(NormalFamily):
        name = "noisy"

        def __init__(self):
            super().__init__(0.5)

        def own(self):
            return self.get_global("scale")

        def total_count_of(self, x):
            return None

    assert Noisy().own() == pytest.approx(0.5)
    with pytest.raises(TypeError, match="final in Noisy"):

        class Louder(Noisy):
            def total_count_of(self, x):
                return x


def test_rules_apply_to_properties_and_static_methods():
    class Root(AbstractOrFinal):
        @property
        @must_write
        def size(self):
            raise NotImplementedError

        @staticmethod
        @may_override
        def helper():
            return 1

        @classmethod
        def make(cls):
            return cls()

    assert names_with("must", Root, lambda cls: True) == ["size"]
    with pytest.raises(TypeError, match="must write size"):
        Root()

    class Leaf(Root):
        size = 3

        @staticmethod
        def helper():
            return 2

    assert (Leaf.make().size, Leaf.helper()) == (3, 2)
    with pytest.raises(TypeError, match="overrides make"):

        class Worse(Leaf):
            make = None
