"""Draws that are not those of the model they are given with."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS

from pyro_idvae import from_mcmc
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from tests.doors.common import data, plain, refused

X = data()
Z = torch.zeros(2, 10, 7, 5)


def broken(value):
    z = Z.clone()
    z[1, 3, 2, 0] = value
    return z


SAMPLES = {
    "none": (None, ArgumentError, "samples is a NoneType: expected a pyro.infer.MCMC object"),
    "text": ("draws.nc", ArgumentError, "samples is a str: expected a pyro.infer.MCMC object"),
    "tensor": (Z, ArgumentError, "samples is a Tensor: expected a pyro.infer.MCMC object"),
    "sampler that has not run": (MCMC(NUTS(plain), 5), ArgumentError, r"call its run\(...\) first"),
    "nothing": ({}, ArgumentError, "samples is empty"),
    "numpy": ({"z": Z.numpy()}, DataError, r"samples\['z'\] is an array: pass torch\.as_tensor"),
    "lists": ({"z": Z.tolist()}, DataError, r"samples\['z'\] is a list: pass torch\.as_tensor"),
    "no chains": ({"z": Z[0, 0]}, ShapeError, r"expected \(chain, draw\) \+ \(7, 5\)"),
    "one dimension": ({"z": Z[0, 0, 0]}, ShapeError, r"expected \(chain, draw\) \+"),
    "no draws": ({"z": Z[:, :0]}, ShapeError, r"\(2, 0, 7, 5\): expected \(chain, draw\)"),
    "other rows": ({"z": Z[:, :, :6]}, ShapeError, r"\(2, 10, 6, 5\): expected"),
    "other latents": ({"z": Z[..., :4]}, ShapeError, r"\(2, 10, 7, 4\): expected"),
    "other draws": ({"z": Z, "x": Z[:, :9]}, ShapeError, r"\(2, 9\) chains and draws"),
    "nan": ({"z": broken(torch.nan)}, DataError, r"1 entries .* first at \(1, 3, 2, 0\)"),
    "inf": ({"z": broken(torch.inf)}, DataError, "leave out chains that have failed"),
    "double": ({"z": Z.double()}, ArgumentError, r"float64 .* pass samples\['z'\]\.to\(torch\.flo"),
    "other name": ({"latent": Z}, ArgumentError, r"lack .*\['z'\].* they have \['latent'\]"),
    "one name more": ({"z": Z, "w": Z}, ArgumentError, r"\['w'\], which are no sites of the model"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_are_no_draws_of_a_model_is_refused(name):
    samples, kind, message = SAMPLES[name]
    refused(lambda: from_mcmc(samples, plain, X), kind, message)


STATS = {
    "text": ("energy", ArgumentError, "sample_stats is a str: expected a dict"),
    "numpy": ({"energy": np.zeros((2, 10))}, DataError, r"sample_stats\['energy'\] is an array"),
    "draws alone": (
        {"energy": torch.zeros(10)},
        ShapeError,
        r"expected \(chain, draw\), \(2, 10\)",
    ),
    "other chains": ({"energy": torch.zeros(3, 10)}, ShapeError, r"has shape \(3, 10\)"),
    "other rows": ({"energy": torch.zeros(2, 10, 6)}, ShapeError, "dimension of the 7 rows"),
}


@pytest.mark.parametrize("name", STATS)
def test_statistics_of_other_draws_are_refused(name):
    stats, kind, message = STATS[name]
    refused(lambda: from_mcmc({"z": Z}, plain, X, sample_stats=stats), kind, message)


def test_draws_on_another_scale_are_refused():
    def positive(x):
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
            pyro.sample("x", dist.Exponential(rate), obs=x)

    x = torch.ones(3)
    refused(
        lambda: from_mcmc({"rate": -torch.ones(1, 4, 3)}, positive, x), DataError, "12 draws out"
    )
    assert from_mcmc({"rate": torch.ones(1, 4, 3)}, positive, x)["posterior"]["rate"].shape[1] == 4


def test_statistics_of_draws_and_of_rows_pass():
    stats = {"energy": torch.zeros(2, 10), "row_energy": torch.zeros(2, 10, 7)}
    found = from_mcmc({"z": Z}, plain, X, sample_stats=stats)
    assert found["sample_stats"]["row_energy"].shape == (2, 10, 7)
