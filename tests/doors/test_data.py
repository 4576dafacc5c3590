"""Data that no function of a model takes: one door, the same words everywhere."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch.utils.data import DataLoader, Dataset, TensorDataset

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError
from tests.doors.common import DIM, ROWS, SHORT, data, plain, plain_guide, refused, small

X = data()


def draws_of(model):
    size = DIM if model is plain else 2
    return {"z" if model is plain else "latent": torch.zeros(2, 10, ROWS, size)}


FUNCTIONS = {
    "from_guide": lambda m, g, x: idvae.from_guide(m, g, x, num_samples=5),
    "from_mcmc": lambda m, g, x: idvae.from_mcmc(draws_of(m), m, x),
    "mcmc nuts": lambda m, g, x: idvae.mcmc(m, x, **SHORT),
    "mcmc hmc": lambda m, g, x: idvae.mcmc(m, x, kernel="hmc", **SHORT),
    "mcmc vectorized": lambda m, g, x: idvae.mcmc(m, x, kernel="vectorized", **SHORT),
    "importance": lambda m, g, x: idvae.importance_log_likelihood(m, g, x, num_samples=9),
    "kl_to_prior": idvae.kl_to_prior,
    "active_units": idvae.active_units,
    "certify": lambda m, g, x: idvae.certify(m, x),
    "autopsy": idvae.autopsy,
    "evaluate": idvae.evaluate,
    "log_evidence": idvae.log_evidence,
    "assignments": idvae.assignments,
    "consistency": lambda m, g, x: idvae.consistency([(m, g), (m, g)], x),
    "find_witness": lambda m, g, x: idvae.find_witness(m, x),
    "calibrate kernel": lambda m, g, x: idvae.calibrate(m, x, kernel="nuts"),
    "calibrate guide": lambda m, g, x: idvae.calibrate(m, x, guide=g),
    "surface": lambda m, g, x: idvae.plot_likelihood_surface(m, x),
    "laplace": lambda m, g, x: idvae.AutoInjectiveLaplace(m).start(x),
}
# None means "no data" to these.
TAKE_NONE = ("certify", "consistency", "find_witness")


class Rows(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return X[index]


def with_entry(value):
    x = X.clone()
    x[2, 1] = value
    return x


DATA = {
    "none": (None, "None"),
    "text": ("data.csv", "is 'data.csv': pass a Tensor"),
    "number": (3.0, r"is 3\.0: pass a Tensor"),
    "numpy": (X.numpy(), r"a numpy ndarray: pass torch\.as_tensor\(\w+, dtype=torch\.float32\)"),
    "lists": (X.tolist(), r"holds no tensor .*a list.*torch\.as_tensor\("),
    "pandas": (pd.DataFrame(X.numpy()), r"a pandas DataFrame: pass torch\.as_tensor.*to_numpy"),
    "xarray": (xr.DataArray(X.numpy()), r"a xarray DataArray: pass torch\.as_tensor.*to_numpy"),
    "xarray set": (xr.Dataset({"x": (("a", "b"), X.numpy())}), "x is a xarray DataArray"),
    "numpy beside": ((X, X.numpy()), r"data\[1\] is a numpy ndarray"),
    "numpy by name": ({"x": X.numpy()}, r"x is a numpy ndarray"),
    "loader": (DataLoader(TensorDataset(X)), r"only fit takes loaders; .*dataset\.tensors"),
    "tensor set": (TensorDataset(X), r"a torch TensorDataset: pass its tensors, \w+\.tensors"),
    "dataset": (Rows(), r"Rows: only fit takes these; pass tensors"),
    "generator": ((row for row in X), "a generator: pass a Tensor"),
    "nothing": ((), "no tensor with rows but nothing"),
    "no names": ({}, "no tensor with rows but nothing"),
    "bad names": ({0: X}, r"the keys \[0\]: expected the names"),
    "no rows": (X[:0], "data has 0 rows"),
    "scalar": (torch.tensor(1.0), "no tensor with rows"),
    "sparse": (X.to_sparse(), r"is sparse .*: pass .*\.to_dense\(\)"),
    "complex": (X.to(torch.complex64), "is complex"),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_tensor_of_rows_is_refused(function, name):
    vae = small()
    x, message = DATA[name]
    kind = ArgumentError if name == "none" and function in TAKE_NONE else DataError
    refused(lambda: FUNCTIONS[function](vae.model, vae.guide, x), kind, message, vae)


TENSORS = {
    "nan": (with_entry(torch.nan), DataError, r"x\[2, 1\]=nan is not finite"),
    "inf": (with_entry(torch.inf), DataError, r"x\[2, 1\]=inf is not finite"),
    "double": (X.double(), ArgumentError, r"float64 .* convert one, e\.g\. x\.to\(torch\.float32"),
    "half": (X.half(), ArgumentError, r"float16 .* convert one"),
    "integers": (X.long(), ArgumentError, r"int64: pass x\.float\(\)"),
    "booleans": (X > 0, ArgumentError, r"bool: pass x\.float\(\)"),
    "device": (X.to("meta"), ArgumentError, r"on meta .* move one"),
    "columns": (X[:, :4], ShapeError, r"\(7, 4\): expected batch \+ \(5,\)"),
    "one row": (X[0], ShapeError, r"pass x\.unsqueeze\(0\)"),
    "three dims": (torch.zeros(DIM, DIM, DIM), ShapeError, r"expected \(rows, 5\)"),
    "rows differ": ((X, X[:6]), ShapeError, "different numbers of rows"),
    "too many": ((X, X, X, X), ArgumentError, "model takes .* too many positional"),
    "other name": ({"y": X}, ArgumentError, "model takes .* missing a required argument: 'x'"),
    "mask": ({"x": X, "mask": X}, ShapeError, r"mask has dtype torch\.float32"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_tensors_that_a_vae_cannot_take_are_refused(function, name):
    vae = small()
    x, kind, message = TENSORS[name]
    refused(lambda: FUNCTIONS[function](vae.model, vae.guide, x), kind, message, vae)


PLAIN = {
    "nan": (with_entry(torch.nan), DataError, "not finite|outside the support"),
    "inf": (with_entry(torch.inf), DataError, "not finite"),
    "device": (X.to("meta"), DataError, "on the device 'meta'"),
    "booleans": (X > 0, DataError, r"bool: pass it as \.float\(\)"),
    "columns": (X[:, :4], ShapeError, r"observes a value of shape \(7, 4\)"),
    "one row": (X[0], ShapeError, r"one observation .* pass x\.unsqueeze\(0\)"),
    "too many": ((X, X), ArgumentError, r"model takes \(x\) .* too many positional"),
}


PAIRS = (
    "from_guide",
    "importance",
    "kl_to_prior",
    "active_units",
    "autopsy",
    "calibrate guide",
    "consistency",
    "evaluate",
    "log_evidence",
)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_tensors_that_a_plain_model_cannot_take_are_refused(function, name):
    x, kind, message = PLAIN[name]
    if name == "columns" and function in PAIRS:
        kind, message = SiteMismatchError, r"guide draws the site 'z' with shape \(7, 4\)"
    refused(lambda: FUNCTIONS[function](plain, plain_guide, x), kind, message)


def test_the_reference_of_an_autopsy_is_checked_before_anything_is_sampled():
    vae = small()

    def call(reference):
        return lambda: idvae.autopsy(vae.model, vae.guide, X, reference=reference)

    refused(call(X.numpy()), DataError, "reference is a numpy ndarray", vae)
    refused(call(X[:, :3]), ShapeError, "expected batch", vae)
    refused(call(with_entry(torch.nan)), DataError, "not finite", vae)


def test_arrays_of_no_dimension_and_options_pass():
    def model(x, scale, mode):
        assert mode == "plain"
        plain(x / float(scale))

    found = idvae.from_mcmc(
        {"z": torch.zeros(1, 4, ROWS, DIM)},
        model,
        {"x": X, "scale": np.float32(2.0), "mode": "plain"},
    )
    assert found["posterior"]["z"].shape == (1, 4, ROWS, DIM)
