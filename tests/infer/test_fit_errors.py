"""Bad input and losses that are not finite: typed errors, and nothing half done."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.utils.data import DataLoader

from pyro_idvae import IDVAE, VAE, Encoder, fit
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import (
    ArgumentError,
    DataError,
    NonFiniteLossError,
    ShapeError,
    SiteMismatchError,
)
from tests.infer.common import ADAM, Rows, data, small


def test_a_matrix_that_cannot_be_factorised_is_a_non_finite_loss():
    torch.manual_seed(0)
    vae = IDVAE(
        4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8], lipschitz_bounds=(1.0, 4.0)
    )
    with pytest.raises(NonFiniteLossError):
        fit(
            vae.model,
            vae.guide,
            data(),
            optimizer=partial(torch.optim.SGD, lr=1e36),
            num_epochs=20,
            progress=False,
        )
    assert all(p.isfinite().all() for p in vae.parameters())


@pytest.mark.filterwarnings("ignore:Encountered:UserWarning")
@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.SGD, lr=1e6), partial(ADAM.func, lr=1e8)]
)
def test_a_loss_that_is_not_finite_stops_with_the_last_good_parameters(optimizer):
    network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
    likelihood = NeuralLikelihood(make_family("poisson"), network)
    vae = VAE(likelihood, Encoder(4, 2, [8]))
    x = torch.poisson(torch.full((50, 4), 3.0))
    with pytest.raises(NonFiniteLossError, match="step [0-9]+: ") as caught:
        fit(
            vae.model,
            vae.guide,
            x,
            optimizer=optimizer,
            max_grad_norm=None,
            num_epochs=200,
            seed=0,
            progress=False,
        )
    assert caught.value.step > 0
    assert set(caught.value.sites) <= {"latent", "obs"}
    assert all(p.isfinite().all() for p in vae.parameters())
    assert caught.value.result.num_epochs < 200
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert torch.tensor(loss).isfinite()


def test_parameters_that_pyros_checks_refuse_are_not_finite_losses():
    def model(x):
        scale = pyro.param("scale", torch.tensor(1.0))  # for want of a constraint
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, scale), obs=x)

    optimizer = partial(torch.optim.SGD, lr=2.0)
    with pytest.raises(NonFiniteLossError, match=r"Expected parameter scale.*\['x'\]") as caught:
        fit(model, lambda x: None, torch.zeros(5), optimizer=optimizer, progress=False)
    assert caught.value.step == 1
    assert pyro.param("scale").item() == 1.0


def test_errors_of_the_model_stay_what_they_are():
    calls = []

    def model(x):
        calls.append(1)
        if len(calls) > 6:
            raise ValueError("the model's own")
        mean = pyro.param("mean", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    with pytest.raises(ValueError, match="the model's own"):
        fit(model, lambda x: None, torch.zeros(5), progress=False)


def guide_of_another_model(x):
    with pyro.plate("data", len(x)):
        pyro.sample("latents", dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1))


def test_a_guide_with_other_sites_is_refused():
    vae = small()
    with pytest.raises(SiteMismatchError, match=r"lacks \['latent'\] and the model lacks"):
        fit(vae.model, guide_of_another_model, data(), progress=False)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.full((5, 4), torch.nan), DataError, "is not finite"),
        (torch.full((5, 4), torch.inf), DataError, "is not finite"),
        (torch.zeros(5, 3), ShapeError, "expected batch"),
        (torch.zeros(0, 4), DataError, "0 rows"),
        (torch.zeros(5, 4).long(), ArgumentError, r"pass x\.float"),
        (torch.zeros(5, 4).double(), ArgumentError, "float64"),
        (torch.zeros(5, 4, device="meta"), ArgumentError, "is on meta"),
        ((torch.zeros(5, 4), torch.zeros(4, 4)), ShapeError, "different numbers of rows"),
        ({"x": 3.0}, DataError, "no tensor"),
    ],
)
def test_bad_data_are_refused_and_nothing_is_touched(x, error, message):
    vae = small()
    before = [p.detach().clone() for p in vae.parameters()]
    with pytest.raises(error, match=message):
        fit(vae.model, vae.guide, x, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
    assert len(pyro.get_param_store()) == 0


def test_bad_data_of_plain_models_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0), obs=x)

    with pytest.raises(DataError, match=r"data\[0\] has 1 entries that are not finite"):
        fit(model, lambda x: None, torch.tensor([1.0, torch.nan]), progress=False)
    with pytest.raises(ArgumentError, match="no parameters"):
        fit(lambda x: None, lambda x: None, torch.ones(3), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 0}, "num_epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"validation": 1.5}, "validation=1.5"),
        ({"validation": 0.999}, "leaves none"),
        ({"patience": 3}, "needs validation"),
        ({"max_grad_norm": -1.0}, "max_grad_norm=-1.0"),
        ({"kl_warmup": -1}, "kl_warmup=-1"),
        ({"optimizer": 3}, "optimizer is a int"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options_are_named(options, message):
    vae = small()
    with pytest.raises(ArgumentError, match=message):
        fit(vae.model, vae.guide, data(), progress=False, **options)


def test_a_loader_cannot_be_split_here():
    vae = small()
    with pytest.raises(ArgumentError, match="second DataLoader"):
        fit(vae.model, vae.guide, DataLoader(data()), validation=0.1, progress=False)
    with pytest.raises(DataError, match="0 rows"):
        fit(vae.model, vae.guide, Rows(torch.zeros(0, 4)), progress=False)


def test_a_resume_that_would_train_nothing_is_refused():
    vae, other = small(), small(1)
    result = fit(vae.model, vae.guide, data(), num_epochs=1, progress=False)
    with pytest.raises(ArgumentError, match="the result of another pair"):
        fit(other.model, other.guide, data(), resume=result, progress=False)
    with pytest.raises(ArgumentError, match="leave out optimizer"):
        fit(vae.model, vae.guide, data(), resume=result, optimizer=ADAM, progress=False)
    optimizer = pyro.optim.Adam({"lr": 0.02})
    result = fit(vae.model, vae.guide, data(), optimizer=optimizer, num_epochs=1, progress=False)
    again = fit(vae.model, vae.guide, data(), resume=result, num_epochs=2, progress=False)
    assert again.num_epochs == 3


def test_a_batch_with_holes_after_many_is_named():
    """What a loader gives later cannot be checked before the first step."""

    class Holes(Rows):
        def __getitem__(self, index):
            return torch.full_like(self.x[index], torch.nan) if index == 50 else self.x[index]

    vae = small()
    loader = DataLoader(Holes(data()), batch_size=5)
    message = r"step 10: .*the batch has entries that are not finite in \['data\[0\]'\]"
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        fit(vae.model, vae.guide, loader, num_epochs=3, seed=0, progress=False)
    assert caught.value.result.losses == []
    assert all(p.isfinite().all() for p in vae.parameters())


def test_what_was_done_before_a_loss_that_is_not_finite_can_be_gone_on_from():
    vae = small()
    calls = []

    class Breaking(Rows):
        def __getitem__(self, index):
            calls.append(index)
            return self.x[index] + (torch.nan if len(calls) > 300 else 0.0)

    loader = DataLoader(Breaking(data()), batch_size=20)
    with pytest.raises(NonFiniteLossError) as caught:
        fit(vae.model, vae.guide, loader, num_epochs=20, seed=0, progress=False)
    result = caught.value.result
    done = result.num_epochs
    assert 0 < done < 20
    fine = DataLoader(Rows(data()), batch_size=20)
    again = fit(vae.model, vae.guide, fine, num_epochs=2, resume=result, progress=False)
    other = small()
    whole = fit(other.model, other.guide, fine, num_epochs=done + 2, seed=0, progress=False)
    assert again.losses == whole.losses


def test_a_batch_of_another_type_is_named():
    class Mixed(Rows):
        def __getitem__(self, index):
            return self.x[index].double() if index >= 40 else self.x[index]

    vae = small()
    loader = DataLoader(Mixed(data()), batch_size=20)
    with pytest.raises(DataError, match=r"batch 2 of data has the types .*float64"):
        fit(vae.model, vae.guide, loader, num_epochs=3, progress=False)
