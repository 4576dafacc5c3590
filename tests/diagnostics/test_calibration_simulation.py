"""Where simulated data are put, what stays as it was, and what nothing can be simulated of."""

import signal

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyro_idvae as idvae
from pyro_idvae.diagnostics.calibration.quantities import MOST_COORDINATES, MOST_PAIRS, pairs_of
from pyro_idvae.diagnostics.calibration.replications import plan
from pyro_idvae.diagnostics.calibration.simulate import find_places, simulate
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs import BoundModel, as_arguments, open_model
from pyro_idvae.programs.arguments import named_arguments

QUIET = {"num_replications": 20, "progress": False, "seed": 0}


def scalar(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def scalar_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def simulated(model, data):
    """Return the bound model, the places of its data, and one simulation."""
    bound = open_model(model, as_arguments(data))
    places = find_places(bound)
    return bound, places, simulate(bound, places)


def test_covariates_stay_and_data_are_drawn_with_them():
    def model(y, covariate, *, offset):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(covariate, 0.1))
            pyro.sample("y", dist.Normal(z + offset, 0.1), obs=y)

    covariate = 10.0 * torch.arange(50.0)
    data = {"y": torch.zeros(50), "covariate": covariate, "offset": torch.full((50,), 3.0)}
    _, places, (values, arguments) = simulated(model, data)
    found = named_arguments(arguments)
    assert places == {"y": [0]}
    assert found["covariate"] is covariate
    assert (found["offset"] == 3).all()
    assert (found["y"] - covariate - 3).abs().max() < 1.0
    assert (found["y"] - values["z"] - 3).abs().max() < 0.5
    assert (data["y"] == 0).all()


def test_data_equal_to_a_covariate_are_told_from_it():
    def model(covariate, y):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(covariate, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    _, places, (_, arguments) = simulated(model, (torch.zeros(9), torch.zeros(9)))
    assert places == {"y": [1]}
    assert (arguments[0][0] == 0).all()


def test_what_was_handed_over_twice_is_replaced_twice():
    def model(y, for_the_guide):
        scalar(y)

    y = torch.zeros(9)
    _, places, (_, arguments) = simulated(model, (y, y))
    assert places == {"x": [0, 1]}
    assert torch.equal(*arguments[0])


def test_labels_stay_integers_and_shapes_stay_what_they_were():
    def model(y):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 3.0))
            pyro.sample("y", dist.Categorical(logits=torch.stack([z, -z], -1)), obs=y.reshape(-1))

    y = torch.zeros(40, 1, dtype=torch.long)
    _, _, (values, ((found,), _)) = simulated(model, y)
    assert found.dtype == torch.long
    assert found.shape == (40, 1)
    right = (found[:, 0] == 0) == (values["z"] > 0)
    assert right[values["z"].abs() > 3].all()


def test_masked_entries_keep_what_they_hold():
    torch.manual_seed(0)
    for family in ("normal", "bernoulli"):
        vae = idvae.IDVAE(5, 2, family, hidden_dims=[8], encoder_hidden_dims=[8])
        mask = torch.rand(30, 5) > 0.4
        x = torch.where(mask, 1.0, torch.nan)
        _, places, (_, arguments) = simulated(vae.model, {"x": x, "mask": mask})
        found = arguments[1]
        assert places == {"obs": [0]}
        assert found["mask"] is mask
        assert torch.equal(found["x"].isnan(), ~mask)
        assert (found["x"][mask] != 1.0).any()


def test_masks_around_a_site_hide_its_entries_too():
    def model(x, present):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.poutine.mask(mask=present):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    present = torch.tensor([True, False, True])
    _, _, (_, ((x, _), _)) = simulated(model, (torch.full((3,), 7.0), present))
    assert x[1] == 7
    assert (x[present] != 7).all()


def test_the_data_of_a_mixture_come_from_its_prior():
    """Simulated given the given data, the discrete latents would follow those."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(20 * y - 10, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    _, _, (values, ((x,), _)) = simulated(model, torch.full((200,), 10.0))
    assert 60 < (x > 0).sum() < 140
    assert (x.sign() == values["z"].sign()).all()


def test_totals_that_a_model_reads_off_its_data_are_kept():
    torch.manual_seed(0)
    vae = idvae.IDVAE(4, 2, "multinomial", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 50.0, 0.0]]).repeat(10, 1)
    _, _, (_, ((found,), _)) = simulated(vae.model, x)
    assert torch.equal(found.sum(-1), x.sum(-1))
    assert (found != x).any()


def autoregressive(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0)).unsqueeze(-1)
        before = torch.cat([torch.zeros(len(x), 1), x[:, :-1]], 1)
        pyro.sample("x", dist.Normal(z + before, 1.0).to_event(1), obs=x)


def empirical(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.mean(), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def factor(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("fit", -((x - z) ** 2))


def column(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def doubled(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=2 * x)


def twice(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("again", dist.Normal(z, 2.0), obs=x)


def blind(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def tempered(x):
    with pyro.poutine.scale(scale=0.5):
        scalar(x)


def overflowing(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.LogNormal(200.0 * z, 1.0), obs=x)


def at_the_edge(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Beta(0.01 * z.exp(), 0.01), obs=x)


MATRIX = torch.zeros(4, 3)
REFUSED = {
    "autoregressive": (autoregressive, MATRIX, ArgumentError, "law of the site 'x' depends on"),
    "empirical": (empirical, torch.randn(5), ArgumentError, "law of the site 'z' depends on"),
    "factor": (factor, MATRIX[0], ArgumentError, r"the terms \['fit'\] of pyro\.factor"),
    "column": (column, MATRIX, ArgumentError, r"'x' observes, of shape \(4,\), is none of"),
    "doubled": (doubled, MATRIX[0], ArgumentError, r"'x' observes, of shape \(3,\), is none of"),
    "twice": (twice, MATRIX[0], ArgumentError, r"sites \['x', 'again'\] observe one argument"),
    "blind": (blind, MATRIX[0], ArgumentError, "observes nothing"),
    "tempered": (tempered, MATRIX[0], ArgumentError, "are scaled"),
    "overflowing": (
        overflowing,
        1 + MATRIX[:, 0],
        DataError,
        "simulated for the site 'x' are not fin",
    ),
    "edge": (at_the_edge, 0.5 + MATRIX[:, 0], DataError, "'x' lie at the edge of what torch.float"),
}


@pytest.mark.parametrize("kernel", ["vectorized", "nuts"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_data_can_be_simulated_of_is_refused(name, kernel):
    model, data, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        idvae.calibrate(model, data, kernel=kernel, **QUIET)


def shared(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def test_a_guide_of_certain_data_is_refused():
    for model in (scalar, shared):
        guide = AutoNormal(model)
        guide(torch.zeros(4))
        with pytest.raises(ArgumentError, match="draws the same whatever the data are: what was"):
            idvae.calibrate(model, torch.zeros(4), guide=guide, **QUIET)


def test_a_guide_whose_rows_depend_on_one_another_takes_one_run_each():
    def mixing(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x - x.mean(), 0.5))

    for guide, by_row in ((mixing, False), (scalar_guide, True)):
        bound = BoundModel(scalar, guide, as_arguments(torch.randn(6)))
        made = plan(bound, 30)
        assert made.by_row is by_row
        assert ("data of other rows" in made.reason) is not by_row


def test_rows_are_the_examples_again_and_again(monkeypatch):
    def model(y, covariate):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z + covariate, 1.0), obs=y)

    bound = open_model(model, as_arguments((torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]))))
    made = plan(bound, 7)
    assert made.by_row
    assert made.bound.arguments[0][1].tolist() == [1, 2, 3, 1, 2, 3, 1]
    monkeypatch.setattr("pyro_idvae.diagnostics.calibration.replications.ROWS_AT_ONCE", 4)
    made = plan(bound, 10)
    assert made.bound.arguments[0][1].tolist() == [1, 2, 3, 1]
    later = [part.bound.arguments[0][1].tolist() for part in made.later()]
    assert later == [[2, 3, 1, 2], [3, 1]]


def test_a_plan_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    for model in (scalar, shared):
        plan(open_model(model, as_arguments(torch.zeros(4))), 20)
    assert torch.equal(state, torch.get_rng_state())


def test_an_example_of_one_row_will_do():
    found = idvae.calibrate(scalar, torch.zeros(1), guide=scalar_guide, **QUIET)
    assert found.by_row
    assert found.ranks.shape == (20, 3)


def test_many_coordinates_are_looked_at_in_some_of_them():
    size = 2 * MOST_COORDINATES

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(size), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5).to_event(1))

    found = idvae.calibrate(model, torch.zeros(2, size), guide=guide, num_draws=20, **QUIET)
    assert found.ranks.shape == (20, MOST_COORDINATES + 2 + MOST_PAIRS)
    assert found.names[0] == "z[0]"
    assert found.names[MOST_COORDINATES - 1] == f"z[{size - 1}]"
    assert "and 102 more, of larger p" in str(found)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 7, 20, 21, 100])
def test_pairs_are_distinct_and_meet_every_coordinate_while_there_are_few(count):
    pairs = pairs_of(list(range(count)))
    assert len(set(pairs)) == len(pairs) == min(count * (count - 1) // 2, MOST_PAIRS)
    assert all(one < other for one, other in pairs)
    if 2 <= count <= MOST_PAIRS:
        assert {place for pair in pairs for place in pair} == set(range(count))


class Pressing(nn.Module):
    """A model of latents that rows share, in whose runs somebody presses Ctrl-C."""

    def __init__(self, at):
        super().__init__()
        self.at, self.runs = at, 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        self.runs += 1
        if self.runs == self.at:
            signal.raise_signal(signal.SIGINT)
        mean = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, self.scale), obs=x)


def shared_guide(x):
    precision = 1 + len(x)
    pyro.sample("m", dist.Normal(x.sum() / precision, precision**-0.5))


def test_an_interrupt_keeps_the_replications_that_are_done():
    x = torch.zeros(3)
    options = {"num_draws": 6, **QUIET}
    counted = Pressing(at=None)
    whole = idvae.calibrate(counted, x, guide=shared_guide, **options)
    assert whole.complete
    pressed = Pressing(at=int(0.8 * counted.runs))
    with pytest.warns(UserWarning, match=r"interrupted: 1\d of 20 replications, 6 draws each"):
        found = idvae.calibrate(pressed, x, guide=shared_guide, **options)
    number = len(found.ranks)
    assert 10 <= number < 20
    assert not found.complete
    assert f"caution: interrupted: {number} of 20 replications" in str(found)
    below = (found.ranks[:, 0] == whole.ranks[:number, 0]).mean()
    assert below == 1  # those that are done are those that would have been
    assert pressed.training
    assert pressed.scale.requires_grad
    early = Pressing(at=int(0.5 * counted.runs))
    with pytest.raises(KeyboardInterrupt):
        idvae.calibrate(early, x, guide=shared_guide, **options)


def test_an_interrupt_of_the_kernel_keeps_its_draws(monkeypatch):
    from pyro_idvae.infer.rowwise.vectorized import RowSampler

    advance, steps = RowSampler.advance, [0]

    def counting(self):
        steps[0] += 1
        if steps[0] == 60:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(RowSampler, "advance", counting)
    options = {"num_draws": 20, "mcmc_options": {"warmup_steps": 20}, **QUIET}
    with pytest.warns(UserWarning, match="interrupted: 20 of 20 replications"):
        found = idvae.calibrate(scalar, torch.zeros(3), kernel="vectorized", **options)
    assert not found.complete
    assert found.ranks.max() <= found.num_draws <= 20
    assert np.isfinite(found.p_values).all()
