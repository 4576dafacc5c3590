"""Annealed importance sampling: unbiased weights along a frozen schedule."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch.distributions import biject_to

from pyro_idvae.infer.rowwise.annealing.annealer import Annealer
from pyro_idvae.infer.rowwise.annealing.modes import distinct, single
from pyro_idvae.infer.rowwise.annealing.passes import backwards, forwards
from pyro_idvae.infer.rowwise.annealing.path import Path
from pyro_idvae.infer.rowwise.annealing.pilot import (
    Stage,
    conditional_size,
    distance,
    explore,
    onwards,
)
from pyro_idvae.infer.rowwise.annealing.proposals import NormalProposal, PriorProposal
from pyro_idvae.infer.rowwise.annealing.schedule import Schedule, temperatures_for
from pyro_idvae.infer.rowwise.annealing.sources import source_of
from pyro_idvae.infer.rowwise.gradients import row_gradient
from pyro_idvae.infer.rowwise.trajectory import Dynamics, State
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.door import open_model, open_pair
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent

GAIN, NOISE = 2.0, 0.5


def line(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(GAIN * z, NOISE), obs=x)


def positive(x):
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.sample("x", dist.Normal(loc, rate.unsqueeze(-1)).to_event(1), obs=x)


def data(rows, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, generator=generator, dtype=dtype)
    return z, GAIN * z + NOISE * torch.randn(rows, generator=generator, dtype=dtype)


def truth(x):
    return dist.Normal(0.0, math.hypot(GAIN, NOISE)).log_prob(x.double())


def annealed(x, kind="prior", guide=None, model=line, **options):
    arguments = as_arguments(x)
    bound = open_model(model, arguments)
    pair = None if guide is None else open_pair(model, guide, arguments)
    settings = {
        "chains": 8,
        "num_temperatures": 10,
        "conditional_ess": 0.99,
        "num_steps": 3,
        "num_posterior_draws": 2,
        "both": False,
        **options,
    }
    annealer = Annealer(bound, source_of(bound, pair, kind), **settings)
    return annealer, list(annealer.run())


def test_weights_are_unbiased_however_few_there_are():
    torch.manual_seed(0)
    _, x = data(1000)
    for temperatures, chains in ((2, 4), (5, 4), (20, 8)):
        _, found = annealed(x, num_temperatures=temperatures, chains=chains)
        weights = torch.cat([part.log_weights for part in found], 1)
        ratio = (weights - truth(x)).exp().mean(0)
        assert abs(ratio.mean() - 1) < 3 * ratio.std() / len(x) ** 0.5


def test_weights_backwards_are_unbiased_from_exact_draws():
    torch.manual_seed(1)
    z, x = data(1000)
    _, found = annealed(x, both=True, latents={"z": z}, num_temperatures=20)
    weights = torch.cat([part.backward for part in found], 1)
    ratio = (truth(x) - weights).exp().mean(0)
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / len(x) ** 0.5


def test_an_exact_proposal_needs_no_annealing():
    torch.manual_seed(2)
    _, x = data(50)
    precision = 1 + (GAIN / NOISE) ** 2

    def posterior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x * GAIN / NOISE**2 / precision, precision**-0.5))

    _, found = annealed(x, "guide", posterior, num_temperatures=2)
    torch.testing.assert_close(found[0].log_weights, truth(x).expand(8, -1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["prior", "laplace"])
def test_both_ends_of_a_path_have_the_densities_of_the_model(kind):
    torch.manual_seed(3)
    x = torch.randn(6, 2)
    bound = open_model(positive, as_arguments(x))
    density = RowDensity(bound)
    path = Path(density, source_of(bound, None, kind).on(density, torch.arange(6), 1).proposal)
    u = 0.5 * torch.randn_like(path.example())
    values, gradients = path(u)
    draw, volume = density.constrain(u)
    rate, loc = dist.Gamma(2.0, 1.0), dist.Normal(0.0, 1.0)
    log_prior = rate.log_prob(draw["rate"]) + loc.log_prob(draw["loc"]).sum(-1) + volume
    likelihood = dist.Normal(draw["loc"], draw["rate"].unsqueeze(-1)).log_prob(x).sum(-1)
    torch.testing.assert_close(values[1], log_prior + likelihood)
    if kind == "prior":
        torch.testing.assert_close(values[0], log_prior)
    torch.testing.assert_close(
        volume, biject_to(rate.support).log_abs_det_jacobian(u[:, 0], draw["rate"])
    )
    width = 1e-3
    for k in range(3):
        shift = torch.zeros_like(u)
        shift[:, k] = width
        slope = (path(u + shift)[0] - path(u - shift)[0]) / (2 * width)
        torch.testing.assert_close(gradients[..., k], slope, rtol=2e-2, atol=2e-2)


def test_a_recorded_path_is_the_path():
    torch.manual_seed(4)
    x = torch.randn(6, 2)
    bound = open_model(positive, as_arguments(x))
    density = RowDensity(bound)
    path = Path(density, PriorProposal(density))
    with silent(positive):
        target = row_gradient(path)
    assert target.captured
    u = torch.randn_like(path.example())
    for mine, wanted in zip(target(u), path(u), strict=True):
        torch.testing.assert_close(mine, wanted)


def pieces(rows=40, chains=16):
    torch.manual_seed(5)
    _, x = data(rows)
    bound = open_model(line, as_arguments(x.repeat(chains)))
    density = RowDensity(bound)
    target = row_gradient(Path(density, PriorProposal(density)))
    dynamics = Dynamics(target.evaluate)
    start = target.density.sample()
    wide = torch.ones(rows, 1, 1, dtype=x.dtype)
    options = {"chains": chains, "num_steps": 3}
    stages = explore(target, dynamics, start, wide, known=False, **options)
    schedule = Schedule(
        stages, 12, target=target, dynamics=dynamics, propose=target.density.sample, **options
    )
    return x, target, stages, schedule


def test_temperatures_rise_from_0_to_1_and_stay_as_they_are():
    _, target, stages, schedule = pieces()
    before = [schedule.temperature(k).clone() for k in range(13)]
    start = target.density.sample()
    forwards(schedule, State(start, *target(start)))
    after = [schedule.temperature(k) for k in range(13)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    steps = torch.stack(after).diff(dim=0)
    assert bool((steps > 0).all())
    assert bool((after[0] == 0).all())
    assert bool((after[-1] == 1).all())
    assert bool((stages[-1].length > 1).all())


def test_kernels_leave_each_density_of_the_path_as_it_is():
    chains = 400
    x, target, _, schedule = pieces(rows=5, chains=chains)
    for index in (3, 8, 12):
        t = schedule.temperature(index).repeat(chains)
        precision = 1 + t * (GAIN / NOISE) ** 2
        mean = t * GAIN / NOISE**2 * x.repeat(chains) / precision
        for reverse in (False, True):
            u = (mean + precision**-0.5 * torch.randn_like(mean)).unsqueeze(-1)
            state = State(u, *target(u))
            for _ in range(5):
                state = schedule.advance(state, index, reverse=reverse)
            white = (state.u[:, 0] - mean) * precision**0.5
            assert not torch.equal(state.u, u)
            count = len(white)
            assert abs(white.mean()) < 4 / count**0.5
            assert abs(white.square().mean() - 1) < 4 * (2 / count) ** 0.5


def test_a_pass_back_has_the_weights_of_the_pass_there():
    """Without moves both weights are one importance weight."""
    x, target, stages, _ = pieces()
    still = [
        Stage(s.temperature, s.length, torch.full_like(s.step, 1e-30), s.covariance) for s in stages
    ]
    start = target.density.sample()
    schedule = Schedule(
        still,
        7,
        chains=16,
        num_steps=1,
        target=target,
        dynamics=Dynamics(target.evaluate),
        propose=lambda: start,
    )
    state = State(start, *target(start))
    end, log_weights = forwards(schedule, state)
    torch.testing.assert_close(end.u, start)
    wanted = state.log_prob[1] - state.log_prob[0]
    torch.testing.assert_close(log_weights, wanted)
    torch.testing.assert_close(backwards(schedule, state), wanted)
    assert len(x) == 40


def test_conditional_sizes_and_lengths():
    rises = torch.tensor([[0.0, 1.0], [2.0, 1.0], [-torch.inf, 1.0]], dtype=torch.float64)
    step = torch.tensor([0.5, 0.5], dtype=torch.float64)
    weights = torch.tensor([1.0, math.e, 0.0], dtype=torch.float64)
    size = conditional_size(rises, step)
    torch.testing.assert_close(size[0], weights.sum() ** 2 / (3 * weights.square().sum()))
    torch.testing.assert_close(size[1], torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(1 / (1 + distance(size) ** 2), size)
    following, length = onwards(10 * rises, torch.zeros(2, dtype=torch.float64), last=False)
    assert float(following[1]) == 1.0
    assert float(length[1]) < 1e-6
    assert 0 < float(following[0]) < 1
    stages = [Stage(step, torch.tensor([2.0, 3.0]), step, step)]
    assert temperatures_for(stages, 0.99) == math.ceil(3 / (1 / 0.99 - 1) ** 0.5)


def test_modes_are_kept_once_each_with_their_masses():
    places = torch.tensor([[0.0], [5.0], [0.01], [5.0], [20.0]]).unsqueeze(1)
    height = torch.tensor([0.0, 1.0, 0.0, 1.0, -50.0]).unsqueeze(1)
    covariance = torch.tensor([1.0, 0.25, 1.0, 0.25, 1.0]).reshape(5, 1, 1, 1)
    found = distinct(places, height, covariance)
    order = found.loc[0, :, 0].argsort()
    assert found.loc[0, order, 0].tolist() == [0.0, 5.0]
    masses = np.array([1.0, math.e * 0.5])
    np.testing.assert_allclose(found.log_share[0, order].exp(), masses / masses.sum(), rtol=1e-6)
    one = distinct(
        torch.full((3, 2, 1), torch.nan),
        torch.full((3, 2), torch.nan),
        covariance[:3].expand(3, 2, 1, 1),
    )
    assert one.loc.shape == (2, 1, 1)
    assert one.log_share.tolist() == [[0.0], [0.0]]


def test_a_mixture_of_normals_is_sampled_and_scored():
    torch.manual_seed(6)
    modes = distinct(
        torch.tensor([[[-3.0, 0.0]], [[3.0, 1.0]]]),
        torch.tensor([[0.0], [0.7]]),
        torch.stack([torch.eye(2), torch.tensor([[0.5, 0.2], [0.2, 0.3]])]).unsqueeze(1),
    )
    proposal = NormalProposal(modes, 5000)
    wanted = dist.MixtureSameFamily(
        dist.Categorical(logits=modes.log_share[0]),
        dist.MultivariateNormal(modes.loc[0], modes.covariance[0]),
    )
    u = proposal.sample()
    point = type("Point", (), {"u": u})
    torch.testing.assert_close(proposal.log_prob(point), wanted.log_prob(u), rtol=1e-4, atol=1e-4)
    assert (u.mean(0) - wanted.mean).abs().max() < 4 * u.std(0).max() / len(u) ** 0.5
    alone = single(torch.zeros(1, 2), torch.eye(2).unsqueeze(0))
    white = dist.Normal(0.0, 1.0).log_prob(u).sum(-1)
    torch.testing.assert_close(NormalProposal(alone, 5000).log_prob(point), white)


def test_a_guide_without_a_density_by_row_lends_its_moments():
    torch.manual_seed(7)
    _, x = data(20, dtype=torch.float32)
    guide = AutoNormal(line, init_scale=1.0)
    guide(x)
    annealer, found = annealed(x, "guide", guide, num_temperatures=100)
    assert "means and covariances" in annealer.source.words
    lower = found[0].log_weights.logsumexp(0) - math.log(8)
    assert (lower - truth(x)).abs().max() < 0.5
    assert abs((lower - truth(x)).mean()) < 0.15


def test_the_size_of_blocks_changes_nothing_but_the_numbers():
    _, x = data(30)
    for block_size in (1, 8, 100):
        torch.manual_seed(8)
        annealer, found = annealed(x, "laplace", block_size=block_size, num_temperatures=3)
        assert len(found) == len(annealer.blocks)
        whole = torch.cat([part.log_weights for part in found], 1)
        assert whole.shape == (8, 30)
        lower = whole.logsumexp(0) - math.log(8)
        error = (whole - lower).exp().std(0) / math.sqrt(8)
        assert ((lower - truth(x)).abs() < 5 * error + 0.01).all()
