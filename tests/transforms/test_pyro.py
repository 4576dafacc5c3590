"""Composition with Pyro's flows, guides and conditional distributions."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import iterated
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormalizingFlow
from pyro.nn import PyroModule

from pyro_idvae.potentials import QuadraticPotential
from pyro_idvae.transforms import Brenier, brenier, conditional_brenier


def banana():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    y = pyro.sample("y", dist.Normal(x.square(), 0.5))
    pyro.sample("z", dist.Normal(y - x, 0.3), obs=torch.tensor(1.0))


@pytest.mark.slow
def test_a_flow_guide_of_brenier_maps_beats_a_normal_guide():
    from pyro.infer.autoguide import AutoMultivariateNormal

    def final_losses(guide):
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        elbo = Trace_ELBO(num_particles=64, vectorize_particles=True, max_plate_nesting=0)
        svi = SVI(banana, guide, pyro.optim.Adam({"lr": 0.02}), elbo)
        return torch.tensor([svi.step() for _ in range(300)])[-100:]

    flow = final_losses(
        AutoNormalizingFlow(banana, partial(iterated, 2, brenier, hidden_dims=[16]))
    )
    normal = final_losses(AutoMultivariateNormal(banana))
    error = ((flow.var() + normal.var()) / 100).sqrt()
    assert flow.mean() < normal.mean() - 4 * error


def test_the_guides_own_draws_are_scored_without_solving(monkeypatch):
    import pyro_idvae.transforms.brenier_map as module

    calls = []
    solve = module.invert_gradient
    monkeypatch.setattr(
        module, "invert_gradient", lambda *a, **k: calls.append(1) or solve(*a, **k)
    )
    guide = AutoNormalizingFlow(banana, partial(iterated, 2, brenier))
    svi = SVI(banana, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(5):
        svi.step()
    assert not calls
    transform = brenier(2)
    y = transform(torch.randn(3, 2))
    with torch.no_grad():
        transform.potential.shift.add_(1.0)
    assert torch.allclose(transform(transform.inv(y)), y, atol=1e-4)
    assert calls


def test_a_conditional_flow_learns_a_regression():
    pyro.set_rng_seed(0)
    context = torch.randn(200, 1)
    y = torch.stack([context[:, 0] * 2, -context[:, 0]], -1) + 0.3 * torch.randn(200, 2)
    base = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
    transform = conditional_brenier(2, context_dim=1, hidden_dims=[16])
    flow = dist.ConditionalTransformedDistribution(base, [transform])

    def model():
        pyro.module("flow", transform)
        with pyro.plate("data", 200):
            pyro.sample("y", flow.condition(context), obs=y)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step() / 200 for _ in range(300)]
    assert losses[-1] < losses[0] - 1
    # The entropy of the noise is the best any model can do: 2·(½ log 2πe + log .3) = .43 nats.
    assert losses[-1] < 1.0


def test_transforms_train_inside_a_pyro_module():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.flow = brenier(2, hidden_dims=[8])

        def forward(self, x):
            base = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.TransformedDistribution(base, [self.flow]), obs=x)

    model = Model()
    x = 3 * torch.randn(50, 2)
    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(50)]
    assert losses[-1] < losses[0]
    assert "flow$$$potential.weight" in pyro.get_param_store()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_transformed_distributions_have_the_right_shapes(shape):
    transform = brenier(2).double()
    base = dist.Normal(torch.zeros(2).double(), torch.ones(2).double()).expand([*shape, 2])
    flow = dist.TransformedDistribution(base.to_event(1), [transform])
    assert flow.batch_shape == shape
    assert flow.event_shape == (2,)
    assert flow.log_prob(flow.rsample((4,))).shape == (4, *shape)


def test_the_memory_is_void_when_anything_changed():
    def fresh():
        transform = brenier(2).double()
        x = torch.randn(3, 2, dtype=torch.double)
        return transform, x, transform(x)

    def exact(transform, y):
        return torch.allclose(transform(transform.inv(y)), y)

    transform, _, y = fresh()
    y.data.add_(1.0)
    with torch.no_grad():
        y.add_(1.0)
    assert exact(transform, y)
    transform, _, y = fresh()
    vector = torch.nn.utils.parameters_to_vector(transform.parameters())
    torch.nn.utils.vector_to_parameters(vector + 0.1, transform.parameters())
    assert exact(transform, y)
    transform, _, y = fresh()
    transform.load_state_dict(brenier(2).double().state_dict(), assign=True)
    assert exact(transform, y)


def test_buffers_of_a_potential_count_too():
    """A potential of somebody's own may hold what no optimiser moves, and move it."""

    class Tilted(QuadraticPotential):
        def __init__(self):
            super().__init__(2)
            self.register_buffer("tilt", torch.zeros(2))

    transform = Brenier(Tilted()).double()
    x = torch.randn(3, 2, dtype=torch.double)
    y = transform(x)
    assert transform.inv(y) is x
    transform.potential.tilt.add_(1.0)
    assert transform.inv(y) is not x
