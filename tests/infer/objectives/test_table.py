"""The table of remedies: every one has a test of its laws, names and options are checked."""

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch

from pyro_idvae import IDSVAE, IDVAE, SequentialVAE, fit
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import OBJECTIVES, make_objective
from pyro_idvae.infer.objectives.objective import options_of
from pyro_idvae.models import SequenceEncoder
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


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("kind", ["identifiable", "ordinary"])
def test_models_of_sentences_train_by_them_or_say_why_not(name, kind):
    torch.manual_seed(0)
    tokens, lengths = torch.randint(6, (20, 5)), torch.randint(1, 6, (20,))
    if kind == "identifiable":
        vae = IDSVAE(6, 2, base=tokens, base_lengths=lengths, hidden_dim=8, encoder_hidden_dim=8)
    else:
        vae = SequentialVAE(NeuralAutoregressive(6, 2, hidden_dim=8), SequenceEncoder(6, 2, 8))
    data, options = (tokens, lengths), {"num_epochs": 2, "batch_size": 10, "progress": False}
    if name in ("inverse_lipschitz", "latent_reconstruction"):
        with pytest.raises(ArgumentError, match="TokenSequence, which has no mean"):
            fit(vae.model, vae.guide, data, objective=name, **options)
        return
    before = [p.detach().clone() for p in vae.guide.parameters()]
    found = fit(vae.model, vae.guide, data, objective=name, seed=0, **options)
    assert all(math.isfinite(loss) for loss in found.losses)
    moved = [bool((a != b).any()) for a, b in zip(before, vae.guide.parameters(), strict=True)]
    assert all(moved)


def test_numbers_of_categories_have_no_mean_to_move():
    torch.manual_seed(0)
    vae = IDVAE(4, 2, "categorical", hidden_dims=[8], encoder_hidden_dims=[8])
    with pytest.raises(ArgumentError, match="Categorical, which has no mean"):
        fit(
            vae.model,
            vae.guide,
            torch.randint(4, (20,)),
            objective="latent_reconstruction",
            num_epochs=1,
            progress=False,
        )
