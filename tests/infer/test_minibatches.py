"""What a batch may stand for: plates, latents, guides."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal

from pyro_idvae import IDVAE, fit
from pyro_idvae.errors import (
    ArgumentError,
)
from tests.infer.common import ADAM, data, small


@pytest.mark.slow
def test_minibatches_estimate_the_full_objective():
    """The average of the batches' losses is the full loss: every row counts once."""
    vae = small()
    x = data(60)
    frozen = partial(torch.optim.SGD, lr=1e-12)
    losses = {
        size: fit(
            vae.model,
            vae.guide,
            x,
            elbo=TraceMeanField_ELBO(num_particles=400),
            optimizer=frozen,
            num_epochs=1,
            batch_size=size,
            seed=0,
            progress=False,
        ).losses[0]
        for size in (None, 20, 25)
    }
    assert losses[20] == pytest.approx(losses[None], rel=0.01)
    assert losses[25] == pytest.approx(losses[None], rel=0.01)


def test_a_model_that_subsamples_itself_is_left_alone():
    x = torch.randn(100) + 3

    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 100, subsample_size=10) as index:
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x[index])

    result = fit(
        model, AutoNormal(model), x, optimizer=ADAM, num_epochs=300, seed=0, progress=False
    )
    assert pyro.param("AutoNormal.locs.mean").item() == pytest.approx(x.mean().item(), abs=0.2)
    # Per data point of all 100, not of the 10 drawn.
    assert result.losses[-1] == pytest.approx(1.5, abs=0.5)


def test_a_latent_outside_the_plate_of_a_minibatch_is_refused():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    guide = AutoNormal(model)
    with pytest.raises(ArgumentError, match="'mean' is not in a plate"):
        fit(model, guide, torch.randn(50), batch_size=10, progress=False)
    fit(model, guide, torch.randn(50), num_epochs=2, progress=False)


def test_a_guide_of_certain_rows_is_refused_for_minibatches():
    vae = small()
    auto = AutoNormal(vae.model)
    with pytest.raises(ArgumentError, match="belong to certain rows"):
        fit(vae.model, auto, data(), batch_size=10, progress=False)
    with pytest.raises(ArgumentError, match="belong to certain rows"):
        fit(vae.model, AutoNormal(vae.model), data(), validation=0.5, progress=False)
    fit(vae.model, AutoNormal(vae.model), data(), num_epochs=1, progress=False)


def test_what_is_wrong_with_the_data_is_not_blamed_on_the_guide():
    vae = IDVAE(4, 2, "poisson", hidden_dims=[8], encoder_hidden_dims=[8])

    def model(x):
        return vae.model(x)  # hides the model's own check of its data

    with pytest.raises(ValueError, match="support"):
        fit(model, vae.guide, torch.full((20, 4), -0.5), batch_size=5, progress=False)


def test_ordinary_programs_are_not_refused_for_minibatches():
    vae = small()

    def model(x):
        pyro.deterministic("constant", torch.tensor(1.0))
        return vae.model(x)

    fit(model, vae.guide, data(), batch_size=20, num_epochs=1, progress=False)
    fit(vae.model, vae.guide, data(3), batch_size=1, num_epochs=1, progress=False)
    norm = torch.nn.BatchNorm1d(4)

    def guide(x):
        pyro.module("norm", norm)
        return vae.guide(norm(x))

    fit(vae.model, guide, data(), batch_size=2, num_epochs=1, progress=False)


def test_a_plate_of_the_batchs_size_is_not_taken_for_the_data():
    def model(x):
        with pyro.plate("features", 4, dim=-2):
            m = pyro.sample("m", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("x", dist.Normal(m, 1.0), obs=x.T)

    for size in (4, 5):
        with pytest.raises(ArgumentError, match="'m' is not in a plate"):
            fit(model, AutoNormal(model), torch.randn(20, 4), batch_size=size, progress=False)

    def by_feature(x):
        with pyro.plate("features", 4):
            m = pyro.sample("m", dist.Normal(0.0, 1.0))
            pyro.sample(
                "x", dist.Normal(m.unsqueeze(-1).expand(4, len(x)), 1.0).to_event(1), obs=x.T
            )

    with pytest.raises(ArgumentError, match="is not in a plate"):
        fit(by_feature, AutoNormal(by_feature), torch.randn(20, 4), batch_size=4, progress=False)
