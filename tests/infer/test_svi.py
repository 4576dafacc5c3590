"""Training: objectives, data, optimisers, schedules."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch.distributions import constraints
from torch.utils.data import DataLoader, TensorDataset

from pyro_idvae import fit, kl_to_prior
from tests.infer.common import ADAM, Rows, data, small


@pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites:UserWarning")
@pytest.mark.parametrize(
    "elbo",
    [
        None,
        Trace_ELBO(num_particles=2, vectorize_particles=False),
        TraceMeanField_ELBO(),
        TraceEnum_ELBO(max_plate_nesting=1),
        RenyiELBO(alpha=0.5, num_particles=3),
    ],
)
def test_every_objective_trains(elbo):
    vae = small()
    result = fit(
        vae.model,
        vae.guide,
        data(),
        elbo=elbo,
        optimizer=ADAM,
        num_epochs=40,
        seed=0,
        progress=False,
    )
    assert result.num_epochs == 40
    assert sum(result.losses[-5:]) < sum(result.losses[:5])
    assert result.wall_time > 0
    assert result.cpu_time > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: {"x": x},
        TensorDataset,
        lambda x: DataLoader(TensorDataset(x), batch_size=20),
    ],
)
def test_data_of_every_kind(make):
    vae = small()
    given = make(data())
    result = fit(
        vae.model,
        vae.guide,
        given,
        optimizer=ADAM,
        num_epochs=15,
        batch_size=None if isinstance(given, DataLoader) else 20,
        seed=0,
        progress=False,
    )
    assert result.losses[-1] < result.losses[0]


def test_a_dataset_and_its_split():
    vae = small()
    result = fit(
        vae.model,
        vae.guide,
        Rows(data()),
        batch_size=16,
        num_epochs=3,
        validation=0.2,
        seed=0,
        progress=False,
    )
    assert len(result.validation_losses) == 3


@pytest.mark.parametrize("optimizer", [pyro.optim.ClippedAdam({"lr": 0.02}), ADAM])
def test_optimisers_of_both_libraries(optimizer):
    vae = small()
    result = fit(
        vae.model, vae.guide, data(), optimizer=optimizer, num_epochs=40, seed=0, progress=False
    )
    assert result.losses[-1] < result.losses[0]


def test_the_same_seed_gives_the_same_numbers():
    def run():
        vae = small()
        return fit(
            vae.model,
            vae.guide,
            data(),
            num_epochs=4,
            batch_size=16,
            validation=0.2,
            seed=5,
            progress=False,
        )

    first, second = run(), run()
    assert first.losses == second.losses
    assert first.validation_losses == second.validation_losses


def test_plain_functions_with_param_statements():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        weight = pyro.param("weight", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(weight * x, scale))

    x = torch.randn(500) * 2**0.5
    fit(
        model,
        guide,
        x,
        elbo=TraceMeanField_ELBO(),
        optimizer=ADAM,
        num_epochs=100,
        batch_size=100,
        seed=0,
        progress=False,
    )
    # The exact posterior is Normal(x/2, 1/√2).
    assert pyro.param("weight").item() == pytest.approx(0.5, abs=0.05)
    assert pyro.param("scale").item() == pytest.approx(0.5**0.5, abs=0.05)


def test_early_stopping_keeps_the_best_parameters():
    vae = small()
    x = data(30)
    result = fit(
        vae.model,
        vae.guide,
        x,
        elbo=TraceMeanField_ELBO(),
        optimizer=partial(ADAM.func, lr=0.1),
        num_epochs=500,
        validation=0.5,
        patience=10,
        seed=0,
        progress=False,
    )
    assert result.stopped_early
    assert result.num_epochs == result.best_epoch + 11
    assert result.validation_losses[result.best_epoch] == min(result.validation_losses)


def test_validation_data_may_be_given():
    vae = small()
    result = fit(
        vae.model,
        vae.guide,
        data(),
        num_epochs=2,
        validation=data(20),
        restore_best=False,
        progress=False,
    )
    assert len(result.validation_losses) == 2
    assert result.best_epoch == 1


def test_kl_warmup_weights_the_latents_only():
    vae = small()
    x = data()

    def first_loss(epochs):
        return fit(
            vae.model,
            vae.guide,
            x,
            elbo=TraceMeanField_ELBO(),
            optimizer=partial(torch.optim.SGD, lr=1e-12),
            num_epochs=1,
            kl_warmup=epochs,
            seed=0,
            progress=False,
        ).losses[0]

    full, half, quarter = first_loss(0), first_loss(2), first_loss(4)
    kl = kl_to_prior(vae.model, vae.guide, x).sum(-1).mean().item()
    assert full - half == pytest.approx(kl / 2, rel=1e-3)
    assert half - quarter == pytest.approx(kl / 4, rel=1e-3)
    assert first_loss(1) == full


def test_gradients_are_clipped():
    vae = small()
    before = [p.detach().clone() for p in vae.parameters()]
    fit(
        vae.model,
        vae.guide,
        data() * 100,
        optimizer=partial(torch.optim.SGD, lr=1.0),
        max_grad_norm=1e-3,
        num_epochs=1,
        progress=False,
    )
    moved = (
        sum((a - b).square().sum() for a, b in zip(before, vae.parameters(), strict=True)) ** 0.5
    )
    assert moved.item() == pytest.approx(1e-3, rel=0.01)


def test_progress_shows_the_elbo_and_nats(capsys):
    vae = small()
    fit(vae.model, vae.guide, data(), num_epochs=1, validation=0.2)
    shown = capsys.readouterr().err
    assert "ELBO=" in shown
    assert "nats" in shown
