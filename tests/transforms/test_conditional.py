"""When a conditional Brenier map evaluates its network, and what it composes with."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.conditional import (
    ConditionalComposeTransformModule,
    ConditionalTransform,
    ConditionalTransformModule,
)

from tests.testing.table import conditional


def counted(**options):
    transform = conditional(**options).double()
    calls = []
    transform.potential.network.register_forward_hook(lambda *_: calls.append(1))
    return transform, calls


@pytest.mark.parametrize("max_exact_dim", [0, 100])
def test_the_network_is_evaluated_once_a_call(max_exact_dim):
    transform, calls = counted(max_exact_dim=max_exact_dim)
    x = torch.randn(4, 3, dtype=torch.double)
    conditioned = transform.condition(torch.randn(4, 2, dtype=torch.double))
    assert not calls
    y = conditioned(x).detach()
    for call in (
        lambda: conditioned(x),
        lambda: conditioned.call_and_ladj(x),
        lambda: conditioned.log_abs_det_jacobian(x, y),
        lambda: conditioned.inv(y),
        lambda: conditioned.inverse_with_error(y),
        conditioned.lipschitz_bounds,
    ):
        calls.clear()
        call()
        assert len(calls) == 1


def test_a_draws_own_density_needs_no_inverse():
    transform, calls = counted()
    conditioned = transform.condition(torch.randn(4, 2, dtype=torch.double))
    x = torch.randn(4, 3, dtype=torch.double)
    y = conditioned(x)
    calls.clear()
    assert conditioned.inv(y) is x
    assert not calls
    with torch.no_grad():
        transform.potential.network[0].bias.add_(1.0)
    assert conditioned.inv(y) is not x
    assert calls


def test_one_conditioned_flow_takes_three_optimiser_steps():
    """As in Pyro's tests of its own conditional transforms: conditioned once, then trained."""
    for direction in ("forward", "inverse"):
        transform = conditional()
        used = transform if direction == "forward" else transform.inv
        base = dist.Normal(torch.zeros(3), torch.ones(3)).to_event(1)
        flow = dist.ConditionalTransformedDistribution(base, [used])
        conditioned = flow.condition(torch.randn(2))
        optimizer = torch.optim.Adam(transform.parameters(), lr=1e-3)
        x = torch.randn(20, 3)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = -conditioned.log_prob(x).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]


def test_it_composes_as_a_conditional_transform_of_pyro():
    transform = conditional()
    assert isinstance(transform, ConditionalTransformModule)
    assert isinstance(transform.inv, ConditionalTransform)
    assert transform.inv.inv is transform
    stack = ConditionalComposeTransformModule([transform, conditional().inv])
    base = dist.Normal(torch.zeros(3), torch.ones(3)).to_event(1)
    flow = dist.ConditionalTransformedDistribution(base, [stack])
    context = torch.randn(4, 2)
    assert flow.condition(context).log_prob(torch.randn(4, 3)).shape == (4,)
    pyro.module("stack", stack)
    assert len(list(pyro.get_param_store())) == 2 * len(list(transform.parameters()))


def test_the_bounds_are_those_of_all_contexts():
    transform, _ = counted()
    context = torch.randn(5, 2, dtype=torch.double)
    x = torch.randn(5, 3, dtype=torch.double)
    conditioned = transform.condition(context)
    each = [transform.condition(row).lipschitz_bounds() for row in context]
    low, high = conditioned.lipschitz_bounds()
    assert low == pytest.approx(min(low for low, _ in each))
    assert high == pytest.approx(max(high for _, high in each))
    values = torch.linalg.eigvalsh(conditioned.potential.hessian(x))
    assert 0 < low <= values.min() <= values.max() <= high
