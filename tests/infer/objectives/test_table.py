"""The table of remedies: every one has a test of its laws, names and options are checked."""

import copy
import pickle
from pathlib import Path

import pytest

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import OBJECTIVES, make_objective
from pyro_idvae.infer.objectives.objective import options_of
from tests.infer.common import data, small


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_its_laws_checked(name):
    text = (Path(__file__).parent / f"test_{name}.py").read_text()
    assert "(ObjectiveTestCase)" in text
    assert OBJECTIVES[name].__name__ in text
    doc = OBJECTIVES[name].__doc__
    for word in (".. math::", "*Helps*", "*Does", "Example:", "Reference:"):
        assert word in doc, f"{name}: the docstring lacks {word}"


def test_names_and_options():
    assert type(make_objective("free_bits", nats=2.0)).__name__ == "FreeBits"
    assert make_objective("lagging", num_particles=3).num_particles == 3
    for name in ("freebits", None, 3):
        with pytest.raises(ArgumentError, match="expected one of .*'free_bits'"):
            make_objective(name)
    with pytest.raises(ArgumentError, match=r"\['beta'\] is no argument of FreeBits"):
        make_objective("free_bits", beta=2.0)
    with pytest.raises(ArgumentError, match=r"\['num_particles'\] is no argument of Beta"):
        make_objective("beta", num_particles=2)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_options_are_told_from_state(name):
    vae, x = small(), data(20)
    objective = make_objective(name)
    before = options_of(objective)
    for _ in range(3):
        objective.loss_and_grads(vae.model, vae.guide, x)
    assert options_of(objective) == before
    for other in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
        assert options_of(other) == before
