"""What the tables of bad inputs share: models, data, and how a refusal is checked."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDMVAE, IDVAE, errors

ROWS, DIM = 7, 5
SHORT = {"num_samples": 5, "warmup_steps": 5, "num_chains": 2, "progress": False}


def small_mixture():
    torch.manual_seed(0)
    return IDMVAE(DIM, 2, 2, hidden_dims=[8], encoder_hidden_dims=[8])


def data(rows=ROWS, dim=DIM):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(1))


def small(family="normal", **options):
    torch.manual_seed(0)
    return IDVAE(DIM, 2, family, hidden_dims=[8], encoder_hidden_dims=[8], **options)


def plain(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(DIM), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def plain_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))


def scalar(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def scalar_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.7))


def told(call, kind, message):
    """Check that a call raises this very error of ours, whose message begins or goes on so."""
    assert getattr(errors, kind.__name__) is kind
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert message in str(caught.value)


def refused(call, kind, message, *modules):
    """Check that a call raises this very error of ours, and that nothing was touched."""
    assert getattr(errors, kind.__name__) is kind
    before = [p.detach().clone() for module in modules for p in module.parameters()]
    state = torch.get_rng_state()
    with pytest.raises(kind, match=message) as caught:
        call()
    assert type(caught.value) is kind
    after = [p for module in modules for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(state, torch.get_rng_state())
