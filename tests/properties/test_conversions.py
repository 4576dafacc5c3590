"""What is converted comes back as it was: draws, arguments, isometries, positive numbers."""

import math
import tempfile
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import softplus

from pyro_idvae import from_mcmc
from pyro_idvae._checks import inverse_softplus
from pyro_idvae.arviz_io import groups_of, save_netcdf
from pyro_idvae.programs.arguments import (
    as_arguments,
    repeat_rows,
    row_count,
    take_rows,
    tensors_of,
    with_tensors,
)
from pyro_idvae.transforms import Helmert
from tests.properties.common import BATCHES, DTYPES, SEEDS, searched

EVENTS = st.lists(st.integers(1, 3), max_size=2).map(tuple)
SITES = st.dictionaries(
    st.sampled_from(["z", "b", "scale", "latent space"]),
    st.tuples(st.booleans(), EVENTS),
    min_size=1,
    max_size=3,
)


def model_of(sites):
    """Return a model whose sites lie in the data plate or not, with events of these shapes."""

    def latent(name, event):
        return pyro.sample(name, dist.Normal(0.0, 1.0).expand(event).to_event(len(event)))

    def model(x):
        mean = sum(latent(n, event).sum() for n, (local, event) in sites.items() if not local)
        with pyro.plate("data", len(x)):
            for name, (local, event) in sites.items():
                if local:
                    value = latent(name, event)
                    mean = mean + value.reshape(len(x), -1).sum(-1)
            pyro.sample("x", dist.Normal(mean * torch.ones(()), 1.0), obs=x)

    return model


@searched(8)
@given(
    sites=SITES,
    chains=st.integers(1, 3),
    draws=st.integers(1, 6),
    rows=st.integers(1, 4),
    seed=SEEDS,
)
def test_draws_come_through_arviz_and_netcdf(sites, chains, draws, rows, seed):
    torch.manual_seed(seed)
    values = {
        name: torch.randn(chains, draws, *((rows,) if local else ()), *event)
        for name, (local, event) in sites.items()
    }
    x = torch.randn(rows)
    data = from_mcmc(values, model_of(sites), x, num_limit_draws=0, num_prior_samples=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.nc"
        save_netcdf(data, path)
        stored = groups_of(az.from_netcdf(str(path)))
        for groups in (groups_of(data), stored):
            posterior = groups["posterior"]
            assert set(posterior.data_vars) == set(sites)
            for name, value in values.items():
                found = posterior[name]
                assert found.dims[:2] == ("chain", "draw")
                assert ("data" in found.dims) == sites[name][0]
                np.testing.assert_array_equal(found.values, value.numpy())
            likelihood = groups["log_likelihood"]["x"]
            assert likelihood.shape == (chains, draws, rows)
            np.testing.assert_array_equal(groups["observed_data"]["x"].values, x.numpy())
            mean = sum(
                v.reshape(chains, draws, rows if sites[n][0] else 1, -1).sum(-1)
                for n, v in values.items()
            )
            wanted = dist.Normal(mean, 1.0).log_prob(x)
            np.testing.assert_allclose(likelihood.values, wanted.numpy(), rtol=1e-5, atol=1e-5)
        for group in stored.values():
            group.close()


@searched(60)
@given(
    rows=st.integers(1, 5),
    shapes=st.lists(EVENTS, min_size=1, max_size=3),
    named=st.booleans(),
    times=st.integers(1, 4),
    seed=SEEDS,
)
def test_rows_are_taken_and_repeated_as_rows(rows, shapes, named, times, seed):
    torch.manual_seed(seed)
    tensors = [torch.randn(rows, *shape) for shape in shapes]
    data = {f"a{i}": tensor for i, tensor in enumerate(tensors)} if named else tuple(tensors)
    arguments = as_arguments(data)
    assert row_count(arguments) == rows
    assert all(map(torch.equal, tensors_of(arguments), tensors))
    index = torch.randint(rows, (3,))
    assert all(
        torch.equal(a, b[index])
        for a, b in zip(tensors_of(take_rows(arguments, index)), tensors, strict=True)
    )
    repeated = repeat_rows(arguments, times)
    assert row_count(repeated) == rows * times
    for wide, tensor in zip(tensors_of(repeated), tensors, strict=True):
        assert torch.equal(wide.unflatten(0, (times, rows)), tensor.expand(times, *tensor.shape))
    back = with_tensors(repeated, tuple(tensors))
    assert all(map(torch.equal, tensors_of(back), tensors))


@searched(60)
@given(size=st.integers(1, 40), batch=BATCHES, dtype=DTYPES, power=st.integers(-15, 15), seed=SEEDS)
def test_helmert_is_an_isometry_onto_what_sums_to_zero(size, batch, dtype, power, seed):
    torch.manual_seed(seed)
    u, v = (10.0**power * torch.randn(2, *batch, size, dtype=torch.double)).to(dtype)
    helmert, rounding = Helmert(), 100 * torch.finfo(dtype).eps
    logits, other = helmert(u), helmert(v)
    length = u.norm(dim=-1)
    assert logits.shape == helmert.forward_shape(u.shape)
    assert bool((logits.sum(-1).abs() <= rounding * length).all())
    assert bool(((helmert.inv(logits) - u).norm(dim=-1) <= rounding * length).all())
    apart, moved = (u - v).norm(dim=-1), (logits - other).norm(dim=-1)
    assert bool(((apart - moved).abs() <= rounding * (length + v.norm(dim=-1))).all())
    inner = (u * v).sum(-1) - (logits * other).sum(-1)
    assert bool((inner.abs() <= rounding * length * v.norm(dim=-1)).all())


@searched(80)
@given(power=st.floats(-30, 30), dtype=DTYPES)
def test_inverse_softplus_undoes_softplus(power, dtype):
    value = torch.tensor(10.0**power, dtype=dtype, requires_grad=True)
    raw = inverse_softplus(value)
    assert softplus(raw).item() == pytest.approx(
        value.item(), rel=100 * torch.finfo(dtype).eps * max(1.0, math.log(10) * abs(power))
    )
    (slope,) = torch.autograd.grad(raw, value)
    assert bool(slope.isfinite())
    assert slope > 0
