"""A fit in several legs is the fit in one, bit for bit."""

import copy
import pickle
import random
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from pyro_idvae import Callback, fit
from pyro_idvae.errors import ArgumentError
from tests.infer.common import ADAM, data, small


def legs(lengths, *, given=None, first=None, pair=small, **options):
    """Fit a new pair in legs; return its parameters and the result."""
    pyro.clear_param_store()
    vae = pair()
    result = None
    own = options if first is None else {**options, **first()}
    for length in lengths:
        begin = {"seed": 3, **own} if result is None else {**options, "resume": result}
        x = data() if given is None else given()
        result = fit(vae.model, vae.guide, x, num_epochs=length, progress=False, **begin)
        torch.randn(7)  # what happens between the legs is nobody's business
        np.random.rand(3)  # noqa: NPY002
        random.random()
    return [p.detach().clone() for p in vae.parameters()], result


def assert_same(one, other):
    (weights, result), (others, again) = one, other
    assert result.losses == again.losses
    assert result.validation_losses == again.validation_losses
    assert result.kl == again.kl
    assert result.best_epoch == again.best_epoch
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def loader():
    generator = torch.Generator().manual_seed(7)
    return DataLoader(TensorDataset(data()), batch_size=13, shuffle=True, generator=generator)


OPTIMIZERS = {
    "adam": lambda: {"optimizer": ADAM},
    "adam with a schedule": lambda: {
        "optimizer": ADAM,
        "scheduler": partial(lr_scheduler.ExponentialLR, gamma=0.8),
    },
    "a plateau": lambda: {
        "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "scheduler": partial(lr_scheduler.ReduceLROnPlateau, patience=0),
    },
    "pyro": lambda: {"optimizer": pyro.optim.ClippedAdam({"lr": 0.02, "lrd": 0.99})},
    "pyro with a schedule": lambda: {
        "optimizer": pyro.optim.MultiStepLR(
            {
                "optimizer": torch.optim.Adam,
                "optim_args": {"lr": 0.1},
                "milestones": [2, 4],
                "gamma": 0.1,
            }
        )
    },
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("validation", [None, 0.2])
def test_legs_of_every_optimiser(name, validation):
    options = {"first": OPTIMIZERS[name], "batch_size": 16, "validation": validation}
    assert_same(legs([8], **options), legs([3, 5], **options))
    assert_same(legs([8], **options), legs([1] * 8, **options))


def test_sixty_rows_in_legs_of_one_epoch():
    """Legs that drew the same numbers each would fit the numbers, not the data."""
    whole, parts = legs([40], first=OPTIMIZERS["adam"]), legs([1] * 40, first=OPTIMIZERS["adam"])
    assert_same(whole, parts)


@pytest.mark.parametrize("options", [{"kl_warmup": 6}, {"restore_best": False, "validation": 0.3}])
def test_legs_with_schedules_of_our_own(options):
    assert_same(legs([8], **options), legs([3, 5], **options))


def test_patience_counts_over_legs():
    options = {
        "first": lambda: {"optimizer": partial(ADAM.func, lr=0.2)},
        "validation": 0.5,
        "patience": 4,
        "batch_size": 10,
    }
    whole, parts = legs([60], **options), legs([5] * 2, **options)
    while not parts[1].stopped_early and parts[1].num_epochs < 60:
        parts = legs([5] * (parts[1].num_epochs // 5 + 1), **options)
    assert whole[1].stopped_early
    assert_same(whole, parts)


def test_whoever_goes_on_after_patience_has_new_patience():
    options = {
        "first": lambda: {"optimizer": partial(ADAM.func, lr=0.2)},
        "validation": 0.5,
        "patience": 4,
    }
    _, result = legs([60, 10], **options)
    _, alone = legs([60], **options)
    assert alone.stopped_early
    assert result.num_epochs >= alone.num_epochs + 4


@pytest.mark.parametrize("workers", [0, 2])
def test_legs_of_a_loader_with_a_generator_of_its_own(workers):
    generators = []

    def given():
        if not generators:
            generators.append(torch.Generator())
        if len(generators) == 1:
            generators[0].manual_seed(7)
            generators.append(None)
        return DataLoader(
            TensorDataset(data()),
            batch_size=13,
            shuffle=True,
            generator=generators[0],
            num_workers=workers,
        )

    whole = legs([4], given=given)
    generators.clear()
    assert_same(whole, legs([1, 3], given=given))


def test_legs_of_a_loader_on_the_global_generator():
    given = partial(DataLoader, TensorDataset(data()), batch_size=13, shuffle=True)
    assert_same(legs([6], given=given), legs([2, 4], given=given))


class Normalised(torch.nn.Module):
    """An encoder with running means, which validation reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.decoder = torch.nn.Linear(2, 4)
        self.norm, self.encoder = torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
        self.dropout = torch.nn.Dropout(0.2)

    def model(self, x):
        pyro.module("normalised", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("normalised", self)
        with pyro.plate("data", len(x)):
            loc = self.encoder(self.dropout(self.norm(x)))
            pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))


def test_buffers_are_part_of_the_state_and_of_the_best_epoch():
    options = {"pair": Normalised, "batch_size": 16, "validation": 0.2}
    whole, parts = legs([8], **options), legs([3, 5], **options)
    assert_same(whole, parts)
    best = whole[1].state.best
    assert any("running_mean" in name for name in best)


def test_baselines_of_an_objective_go_on():
    class Coins:
        def __init__(self):
            self.p = torch.tensor(0.3)

        def model(self, x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", dist.Bernoulli(0.5))
                pyro.sample("x", dist.Normal(k, 1.0), obs=x)

        def guide(self, x):
            p = pyro.param("p", self.p, constraint=dist.constraints.unit_interval)
            infer = {"baseline": {"use_decaying_avg_baseline": True}}
            with pyro.plate("data", len(x)):
                pyro.sample("k", dist.Bernoulli(p), infer=infer)

        def parameters(self):
            return [pyro.param("p")]

    x = data()[:, 0]
    options = {"pair": Coins, "given": lambda: x, "elbo": TraceGraph_ELBO()}
    assert_same(legs([6], **options), legs([2, 4], **options))


def test_a_new_objective_draws_as_many_numbers_as_an_old_one():
    class Mixture:
        def model(self, x):
            means = pyro.param("means", torch.tensor([-1.0, 1.0]))
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
                pyro.sample("x", dist.Normal(means[k.long()] + z, 1.0), obs=x)

        def guide(self, x):
            loc = pyro.param("loc", torch.tensor(0.0))
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc * x, 1.0))

        def parameters(self):
            return [pyro.param("means"), pyro.param("loc")]

    x = data()[:, 0]
    pair = {"pair": Mixture, "given": lambda: x}
    whole = legs([6], elbo=TraceEnum_ELBO(), **pair)
    result, mixture = None, Mixture()
    pyro.clear_param_store()
    for length in (2, 4):
        begin = {"seed": 3} if result is None else {"resume": result}
        result = fit(
            mixture.model,
            mixture.guide,
            x,
            num_epochs=length,
            progress=False,
            elbo=TraceEnum_ELBO(),
            **begin,
        )
    assert_same(whole, ([p.detach() for p in mixture.parameters()], result))


def test_a_callback_with_a_state_goes_on_too():
    class Every(Callback):
        """Stops after nine steps, which it counts itself."""

        def __init__(self):
            self.steps = 0

        def on_step(self, progress):
            self.steps += 1
            if self.steps == 9:
                progress.stop()

        def state_dict(self):
            return {"steps": self.steps, "seen": [1.5, None, (True, "a")]}

        def load_state_dict(self, state):
            assert state["seen"] == [1.5, None, (True, "a")]
            self.steps = state["steps"]

    def run(lengths):
        vae, result = small(), None
        for length in lengths:
            begin = {"seed": 0} if result is None else {"resume": result}
            result = fit(
                vae.model,
                vae.guide,
                data(),
                num_epochs=length,
                callbacks=[Every()],
                progress=False,
                **begin,
            )
        return result

    assert run([20]).num_epochs == run([4, 20]).num_epochs == 9


def test_the_last_weights_go_on_and_the_best_are_shown():
    (weights, result) = legs(
        [30], first=lambda: {"optimizer": partial(ADAM.func, lr=0.2)}, validation=0.5
    )
    assert result.best_epoch < 29
    vae = small()
    names = [name for name, _ in vae.named_parameters()]
    last = [result.state.weights[f"{n}"] for n in names]
    assert not all(torch.equal(a, b) for a, b in zip(weights, last, strict=True))
    best = [result.state.best[f"{n}"] for n in names]
    assert all(torch.equal(a, b) for a, b in zip(weights, best, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_result_may_be_pickled_and_gone_on_from(name):
    options = {"batch_size": 16, "validation": 0.2}
    whole = legs([6], first=OPTIMIZERS[name], **options)
    pyro.clear_param_store()
    vae = small()
    first = OPTIMIZERS[name]()
    result = fit(
        vae.model, vae.guide, data(), num_epochs=2, seed=3, progress=False, **options, **first
    )
    content = pickle.dumps(result)
    copied = copy.deepcopy(result)
    pyro.clear_param_store()
    for first_leg in (pickle.loads(content), copied):
        other = small(5)
        again = fit(
            other.model,
            other.guide,
            data(),
            num_epochs=4,
            resume=first_leg,
            progress=False,
            **options,
            **OPTIMIZERS[name](),
        )
        assert_same(whole, ([p.detach() for p in other.parameters()], again))


def test_a_pickled_result_wants_the_optimiser_it_had():
    vae = small()
    result = fit(vae.model, vae.guide, data(), num_epochs=2, optimizer=ADAM, progress=False)
    again = pickle.loads(pickle.dumps(result))
    assert again.optimizer is None
    with pytest.raises(ArgumentError, match="of Adam.*SGD"):
        fit(
            vae.model,
            vae.guide,
            data(),
            resume=again,
            optimizer=partial(torch.optim.SGD, lr=0.1),
            progress=False,
        )


def test_what_cannot_go_on_is_refused_before_anything_is_changed():
    vae = small()
    result = fit(vae.model, vae.guide, data(), num_epochs=1, seed=0, progress=False)
    before = [p.detach().clone() for p in vae.parameters()]
    for options, message in (
        ({"seed": 0}, "leave out seed"),
        ({"checkpoint": "somewhere"}, "leave out resume"),
        ({"scheduler": lr_scheduler.ConstantLR}, "leave out optimizer and scheduler"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fit(vae.model, vae.guide, data(), resume=result, progress=False, **options)
    with pytest.raises(ArgumentError, match="resume is a dict"):
        fit(vae.model, vae.guide, data(), resume={}, progress=False)
    with pytest.raises(ArgumentError, match="no fit yet"):
        fit(vae.model, vae.guide, data(), resume=type(result)(), progress=False)
    with pytest.raises(ArgumentError, match="shuffled by 1 generators, these are by 2"):
        fit(vae.model, vae.guide, loader(), resume=result, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
    assert result.num_epochs == 1


def test_other_generators_are_left_alone():
    vae = small()
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    states = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    result = fit(vae.model, vae.guide, data(), num_epochs=2, seed=0, progress=False)
    fit(vae.model, vae.guide, data(), num_epochs=2, resume=result, progress=False)
    assert states == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
