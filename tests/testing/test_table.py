"""The table of constructors that the laws are checked for leaves nothing out."""

from pathlib import Path

import pytest
import torch

from pyro_idvae import distributions, potentials, transforms
from pyro_idvae._abstract import AbstractOrFinal
from tests.testing import table

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("potentials", "transforms", "distributions", "testing")


def everything_made():
    """Yield what the constructors of the table make, and what that makes in its turn."""
    for make in table.POTENTIALS.values():
        yield make()
    for make in table.CONDITIONAL_POTENTIALS.values():
        potential = make()
        yield potential
        yield potential.condition(torch.zeros(2))
    for cases in (table.BIJECTIONS, table.CONDITIONAL_BIJECTIONS, table.INJECTIONS):
        for case in cases.values():
            yield case.make()
    for make in table.CONDITIONAL_INJECTIONS.values():
        injection = make()
        yield injection
        yield injection.condition(torch.zeros(3))
    for make in table.SEQUENCE_LIKELIHOODS.values():
        likelihood = make()
        yield likelihood
        yield likelihood.condition(torch.zeros(2), num_tokens=3)
    for case in table.FAMILIES.values():
        family = case.make()
        yield family
        yield family(torch.zeros(family.parameter_dim(3)), case.total_count)
    for case in table.LIKELIHOODS.values():
        yield case.make()


MADE = {type(thing) for thing in everything_made()}


@pytest.mark.parametrize("module", [potentials, transforms, distributions])
def test_every_public_concrete_class_is_in_the_table(module):
    classes = [getattr(module, name) for name in module.__all__]
    classes = [cls for cls in classes if isinstance(cls, type)]
    abstract = [
        cls for cls in classes if issubclass(cls, AbstractOrFinal) and cls._abstract_methods
    ]
    assert abstract
    assert {cls for cls in classes if cls not in abstract} <= MADE


def test_the_table_makes_something_new_each_time():
    for make in table.POTENTIALS.values():
        assert make() is not make()


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_have_at_most_three_hundred_lines(folder):
    files = [
        *(ROOT / "pyro_idvae" / folder).rglob("*.py"),
        *(ROOT / "tests" / folder).rglob("*.py"),
    ]
    assert files
    long = [path.name for path in files if len(path.read_text().splitlines()) > 300]
    assert not long
