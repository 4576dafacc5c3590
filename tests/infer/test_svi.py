from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch.distributions import constraints
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pyro_idvae import IDVAE, VAE, Encoder, fit, kl_to_prior
from pyro_idvae.distributions import InjectiveNormal, NeuralLikelihood, make_family
from pyro_idvae.errors import (
    ArgumentError,
    DataError,
    NonFiniteLossError,
    ShapeError,
    SiteMismatchError,
)
from pyro_idvae.transforms import brenier_injection

ADAM = partial(torch.optim.Adam, lr=0.02)


def small(seed=0, **options):
    torch.manual_seed(seed)
    return IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8], **options)


def data(rows=60):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, 4, generator=generator) * torch.tensor([3.0, 2.0, 1.0, 0.5])


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
    result = fit(
        vae.model,
        vae.guide,
        make(data()),
        optimizer=ADAM,
        num_epochs=15,
        batch_size=20,
        seed=0,
        progress=False,
    )
    assert result.losses[-1] < result.losses[0]


class Rows(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


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


def test_two_models_with_the_same_parameter_names_both_learn():
    models = [small(seed) for seed in (0, 1)]
    names = []
    for vae in models:
        before = [p.detach().clone() for p in vae.parameters()]
        result = fit(
            vae.model, vae.guide, data(), optimizer=ADAM, num_epochs=30, seed=0, progress=False
        )
        assert result.losses[-1] < result.losses[0] - 0.5
        assert all(not torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
        names.append(set(result.parameters))
    assert names[0] == names[1]
    # And the first keeps what it has learned, whoever used its names since.
    kept = [p.detach().clone() for p in models[0].parameters()]
    fit(models[1].model, models[1].guide, data(), num_epochs=3, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(kept, models[0].parameters(), strict=True))


def test_pyro_modules_with_the_same_names_do_not_share():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.rate = PyroParam(torch.tensor(1.0), constraint=constraints.positive)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Exponential(self.rate), obs=x)

    x = torch.rand(200) + 0.1
    first, second = Model(), Model()
    for model, scale in ((first, 1.0), (second, 10.0)):
        fit(model, lambda x: None, x * scale, optimizer=ADAM, num_epochs=400, progress=False)
    assert first.rate.item() == pytest.approx(1 / x.mean().item(), rel=0.05)
    assert second.rate.item() == pytest.approx(0.1 / x.mean().item(), rel=0.05)


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


def test_resuming_goes_on_with_the_optimiser():
    def run(*epochs):
        vae = small()
        result = None
        for number in epochs:
            result = fit(
                vae.model,
                vae.guide,
                data(),
                elbo=TraceMeanField_ELBO(num_particles=50),
                optimizer=ADAM if result is None else None,
                num_epochs=number,
                seed=0,
                progress=False,
                resume=result,
            )
        return result

    once, twice = run(20), run(10, 10)
    assert twice.num_epochs == 20
    assert twice.losses[-1] == pytest.approx(once.losses[-1], rel=0.05)
    assert twice.wall_time > 0


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


def test_one_name_for_two_modules_is_refused():
    first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def model(x):
        pyro.module("net", first)
        pyro.module("net", second)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(first(x) + second(x), 1.0).to_event(1), obs=x)

    with pytest.raises(ArgumentError, match="parameter name 'net"):
        fit(model, lambda x: None, torch.randn(5, 1), progress=False)

    class Half(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = PyroModule[torch.nn.Linear](1, 1)

        def forward(self, x):
            mean = self.net(x)
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    class Other(Half):
        def forward(self, x):
            self.net(x)

    with pytest.raises(ArgumentError, match="parameter name 'net"):
        fit(Half(), Other(), torch.randn(5, 1), progress=False)


def test_two_likelihoods_in_one_model_keep_their_own_parameters():
    torch.manual_seed(0)
    likelihoods = torch.nn.ModuleList(
        InjectiveNormal(brenier_injection(1, 2, [4]), scale=s, learn_scale=True) for s in (1.0, 5.0)
    )
    z, x = torch.randn(9, 1), torch.randn(9, 2)

    def model(x):
        with pyro.plate("data", len(x)):
            for name, likelihood in zip("ab", likelihoods, strict=True):
                pyro.sample(name, likelihood.condition(z), obs=x)

    for likelihood, scale in zip(likelihoods, (1.0, 5.0), strict=True):
        found = likelihood.condition(z).base_dist.scale
        assert torch.allclose(found, torch.tensor(scale))
    with pytest.raises(ArgumentError, match="two modules"):
        fit(model, lambda x: None, x, progress=False)

    def named(x):
        for name, likelihood in zip("ab", likelihoods, strict=True):
            pyro.module(name, likelihood)
        model(x)

    before = [p.detach().clone() for p in likelihoods.parameters()]
    result = fit(named, lambda x: None, x, num_epochs=2, progress=False)
    assert all(not torch.equal(p, q) for p, q in zip(before, likelihoods.parameters(), strict=True))
    # Each tensor once, whatever names it goes by: twice in an optimiser is two steps.
    assert len({id(p) for p in result.parameters.values()}) == len(result.parameters)

    class Both(PyroModule):
        def __init__(self):
            super().__init__()
            self.a, self.b = likelihoods

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("a_site", self.a.condition(z), obs=x)
                pyro.sample("b_site", self.b.condition(z), obs=x)

    both = Both()
    before = [p.detach().clone() for p in both.parameters()]
    fit(both, lambda x: None, x, num_epochs=2, progress=False)
    assert all(not torch.equal(p, q) for p, q in zip(before, both.parameters(), strict=True))


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


def test_module_local_parameters_are_refused_with_words():
    with pyro.settings.context(module_local_params=True):
        vae = small()
        with pytest.raises(ArgumentError, match="module_local_params"):
            fit(vae.model, vae.guide, data(), progress=False)


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


def test_frozen_parameters_and_modes_are_left_alone():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.fixed = PyroModule[torch.nn.Linear](1, 1)
            self.free = PyroModule[torch.nn.Linear](1, 1)
            self.norm = torch.nn.BatchNorm1d(1)

        def forward(self, x):
            mean = self.free(self.norm(self.fixed(x)))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    model = Model()
    model.fixed.requires_grad_(False)
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit(model, lambda x: None, torch.randn(9, 1), num_epochs=2, validation=0.3, progress=False)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"free.weight", "free.bias", "norm.weight", "norm.bias"}
    assert not model.fixed.weight.requires_grad
    assert not model.norm.training
    assert model.training


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


def test_the_mode_of_modules_is_given_back():
    vae = small()
    vae.eval()
    fit(vae.model, vae.guide, data(), num_epochs=1, progress=False)
    assert not vae.model.training
    assert not vae.guide.training


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


def test_progress_shows_the_elbo_and_nats(capsys):
    vae = small()
    fit(vae.model, vae.guide, data(), num_epochs=1, validation=0.2)
    shown = capsys.readouterr().err
    assert "ELBO=" in shown
    assert "nats" in shown
