"""Pyro pairs under Lightning's trainer."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError

pytest.importorskip("lightning")

from pyro_idvae.lightning import LightningSVI, _fits
from tests.processes import printed

X = torch.linspace(-1, 1, 60).reshape(12, 5)


def pair():
    torch.manual_seed(0)
    return idvae.IDVAE(5, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_trainer_trains_a_pair_and_logs_what_collapses(devices):
    """Two processes share 160 rows in batches of 20: half as many steps an epoch."""
    found = printed("lightning_script.py", devices)
    assert found["steps"] == 4 * 8 // devices
    logged = found["logged"]
    assert set(logged) == {
        "train_loss",
        "val_loss",
        "val_kl",
        "val_least_nats",
        "val_active_units",
    }
    assert logged["val_loss"] < found["before"]["val_loss"] - 1
    assert 0 < logged["val_least_nats"] < logged["val_kl"]
    assert logged["val_active_units"] == 2


def test_a_step_is_the_objective_of_a_batch_per_data_point():
    vae = pair()
    module = LightningSVI(vae.model, vae.guide, X, num_rows=12)
    torch.manual_seed(1)
    loss = module.training_step(X, 0)
    torch.manual_seed(1)
    wanted = pyro.infer.Trace_ELBO().loss(vae.model, vae.guide, X) / 12
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-6)
    loss.backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
    trained = {
        id(p) for group in module.configure_optimizers().param_groups for p in group["params"]
    }
    assert trained == {id(p) for p in vae.parameters() if p.requires_grad}


def test_parameters_that_no_module_owns_are_refused():
    pyro.clear_param_store()

    def model(x):
        loc = pyro.param("loc", torch.zeros(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5))

    with pytest.raises(ArgumentError, match=r"\['loc'\] are in Pyro's store and in no module"):
        LightningSVI(model, guide, torch.zeros(3), num_rows=3)


def test_bad_options_are_refused():
    vae = pair()
    for options, words in (
        ({"num_rows": 0}, "num_rows"),
        ({"num_rows": 12, "collapse_rows": 0}, "collapse_rows"),
        ({"num_rows": 12, "objective": "nothing"}, "nothing"),
        ({"num_rows": 12, "elbo": pyro.infer.Trace_ELBO(), "objective": "beta"}, "leave one out"),
    ):
        with pytest.raises(ArgumentError, match=words):
            LightningSVI(vae.model, vae.guide, X, **options)


def test_objectives_hear_of_epochs_and_batches_of_other_shapes_are_left_out():
    vae = pair()
    objective = idvae.make_objective(
        "annealed", schedule=idvae.infer.objectives.Linear(4), unit="epochs"
    )
    module = LightningSVI(vae.model, vae.guide, X, num_rows=12, objective=objective)
    module.on_train_epoch_start()
    seen = {}
    module._note = lambda name, value, rows: seen.update({name: (float(value), rows)})
    with torch.no_grad():
        module.validation_step(X, 0)
        module.validation_step(X[:7], 1)
        assert not _fits(((X[:, :3],), {}), module._seen)
        module.on_validation_epoch_end()
    assert {"val_loss", "val_kl", "val_least_nats", "val_active_units"} == set(seen)
    assert seen["val_least_nats"][1] == 12 + 7
    assert module._seen == []
