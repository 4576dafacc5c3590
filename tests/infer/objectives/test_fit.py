"""Remedies as an option of fit: by name, by object, in legs, in a folder."""

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from pyro_idvae import fit
from pyro_idvae.errors import ArgumentError, CheckpointError
from pyro_idvae.infer.objectives import OBJECTIVES, Annealed, Beta, Lagging, make_objective
from tests.infer.common import ADAM, data, small

OPTIONS = {
    "annealed": {"length": 25},
    "lagging": {"inner_steps": 3, "window": 1, "check_every": 2},
    "target_rate": {"method": "lagrangian", "rise": 20},
}


def made(name):
    return make_objective(name, **OPTIONS.get(name, {}))


def legs(name, lengths, *, anew, **options):
    """Fit in legs; return the weights and the result."""
    pyro.clear_param_store()
    vae, result, objective = small(), None, made(name)
    for length in lengths:
        begin = {"seed": 3, "optimizer": ADAM} if result is None else {"resume": result}
        objective = made(name) if anew else objective
        result = fit(
            vae.model,
            vae.guide,
            data(),
            objective=objective,
            batch_size=24,
            num_epochs=length,
            progress=False,
            **begin,
            **options,
        )
    return [p.detach().clone() for p in vae.parameters()], result


STATEFUL = ["annealed", "batch_norm", "lagging", "target_rate"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_five_epochs_and_five_are_ten(name):
    whole, ten = legs(name, [10], anew=True, validation=0.2)
    for anew in (True, False) if name in STATEFUL else (True,):
        parts, again = legs(name, [5, 5], anew=anew, validation=0.2)
        assert ten.losses == again.losses
        assert ten.validation_losses == again.validation_losses
        assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("name", [*STATEFUL, "beta"])
def test_a_fit_in_a_folder_goes_on(name, tmp_path):
    def run(epochs, folder):
        pyro.clear_param_store()
        vae = small()
        result = fit(
            vae.model,
            vae.guide,
            data(),
            objective=made(name),
            optimizer=ADAM,
            batch_size=30,
            num_epochs=epochs,
            seed=1,
            checkpoint=folder,
            progress=False,
        )
        return result.losses, [p.detach().clone() for p in vae.parameters()]

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    parts = run(4, tmp_path / "parts")
    assert whole[0] == parts[0]
    assert all(torch.equal(a, b) for a, b in zip(whole[1], parts[1], strict=True))


def test_another_objective_is_another_run(tmp_path):
    options = {"num_epochs": 1, "checkpoint": tmp_path, "progress": False, "seed": 0}
    vae = small()
    fit(vae.model, vae.guide, data(), objective=Beta(0.5), **options)
    with pytest.raises(CheckpointError, match=r"elbo was .*0.5.* and is .*0.7"):
        fit(vae.model, vae.guide, data(), objective=Beta(0.7), **{**options, "num_epochs": 2})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_by_name(name):
    vae = small()
    result = fit(
        vae.model, vae.guide, data(), objective=name, num_epochs=2, batch_size=20, progress=False
    )
    assert result.num_epochs == 2


def test_an_object_begins_anew_with_each_fit():
    lagging = Lagging(inner_steps=2, window=1, check_every=1)
    annealed = Annealed(length=100)
    for objective in (lagging, annealed):
        losses = []
        for _ in range(2):
            pyro.clear_param_store()
            vae = small()
            result = fit(
                vae.model,
                vae.guide,
                data(),
                objective=objective,
                optimizer=ADAM,
                num_epochs=20,
                seed=0,
                progress=False,
            )
            losses.append(result.losses)
        assert losses[0] == losses[1]
    assert not lagging.aggressive
    assert annealed.count == 20


def test_a_warm_up_weights_any_objective():
    vae, losses = small(), []
    for warmup in (0, 2):
        losses.append(
            fit(
                vae.model,
                vae.guide,
                data(),
                objective=make_objective("free_bits", nats=100.0),
                optimizer=ADAM,
                num_epochs=1,
                kl_warmup=warmup,
                seed=0,
                progress=False,
            ).losses[0]
        )
        vae = small()
    assert losses[0] - losses[1] == pytest.approx(100.0, rel=1e-3)  # half of two floors


def test_what_cannot_be_together():
    vae, x = small(), data()
    options = {"num_epochs": 1, "progress": False}

    def run(**more):
        return fit(vae.model, vae.guide, x, **options, **more)

    with pytest.raises(ArgumentError, match="elbo=Trace_ELBO with objective='beta': leave one"):
        run(elbo=Trace_ELBO(), objective="beta")
    with pytest.raises(ArgumentError, match="kl_warmup=3 with an Annealed objective"):
        run(objective="annealed", kl_warmup=3)
    with pytest.raises(ArgumentError, match="objective is the class Beta: pass an instance"):
        run(objective=Beta)
    with pytest.raises(ArgumentError, match="objective='beter': expected one of"):
        run(objective="beter")
    with pytest.raises(ArgumentError, match="objective=3: expected a Pyro ELBO"):
        run(objective=3)
    assert run(objective=TraceMeanField_ELBO()).num_epochs == 1


@pytest.mark.parametrize("other", [None, "target_rate"])
def test_a_fit_does_not_go_on_with_another_objective(other):
    vae = small()
    options = {"batch_size": 24, "num_epochs": 1, "progress": False}
    result = fit(vae.model, vae.guide, data(), objective=made("annealed"), **options)
    before = [p.detach().clone() for p in vae.parameters()]
    state = torch.get_rng_state()
    objective = None if other is None else made(other)
    with pytest.raises(ArgumentError, match="resume was trained with the objective Annealed"):
        fit(vae.model, vae.guide, data(), objective=objective, resume=result, **options)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    warmed = fit(vae.model, vae.guide, data(), kl_warmup=2, **options)
    with pytest.raises(ArgumentError, match="and kl_warmup if there was one"):
        fit(vae.model, vae.guide, data(), resume=warmed, **options)
