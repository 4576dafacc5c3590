"""What the tests of objectives share."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae.errors import ArgumentError
from pyro_idvae.testing.linear_gaussian import LinearGaussian

DOUBLE = torch.double


def close(found, wanted, tolerance=1e-3):
    wanted = torch.as_tensor(wanted, dtype=torch.double)
    assert float((found - wanted).abs().max()) <= tolerance, (found, wanted)


def ends_at_the_elbo(objective):
    bed = LinearGaussian()
    bed.minimise(objective)
    close(bed.rates(), bed.best_rates())


def refuses(make, message, **options):
    with pytest.raises(ArgumentError, match=message):
        make(**options)


def slope_of(loss, parameters):
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)])


class Chain:
    """A user's pair of plain functions: z2 given z1, both in a plate, x of both."""

    def __init__(self, rows=8):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(rows, 3, generator=generator, dtype=DOUBLE)

    def model(self, x):
        weight = pyro.param("weight", torch.full((3,), 0.7, dtype=DOUBLE))
        zero = torch.zeros((), dtype=DOUBLE)
        with pyro.plate("rows", len(x)):
            first = pyro.sample("first", dist.Normal(zero, 1.0))
            second = pyro.sample("second", dist.Normal(first, 0.5))
            mean = (first + second).unsqueeze(-1) * weight
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(self, x):
        gain = pyro.param("gain", torch.full((2,), 0.2, dtype=DOUBLE))
        with pyro.plate("rows", len(x)):
            first = pyro.sample("first", dist.Normal(gain[0] * x.sum(-1), 0.8))
            pyro.sample("second", dist.Normal(first + gain[1] * x.sum(-1), 0.4))

    def parameters(self):
        return [p for _, p in sorted(pyro.get_param_store().named_parameters())]
