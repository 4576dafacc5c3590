"""What fit refuses before it trains anything."""

from functools import partial

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_idvae import FitResult, fit
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError
from tests.doors.common import DIM, data, plain, plain_guide, small

X = data()


def with_entry(value):
    x = X.clone()
    x[2, 1] = value
    return x


class Rows(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


def refused(call, kind, message, vae, *, run=False):
    """Check the error, and that neither parameters, store nor random state were touched.

    A loader draws its order, and a pair that was run once has its parameters in Pyro's store.
    """
    before = [p.detach().clone() for p in vae.parameters()]
    state = torch.get_rng_state()
    with pytest.raises(kind, match=message) as caught:
        call()
    assert type(caught.value) is kind
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
    if not run:
        assert len(pyro.get_param_store()) == 0
        assert torch.equal(state, torch.get_rng_state())


DATA = {
    "none": (None, DataError, "is None: pass a Tensor"),
    "text": ("data.csv", DataError, "is 'data.csv': pass a Tensor"),
    "number": (3.0, DataError, r"is 3\.0: pass a Tensor"),
    "numpy": (X.numpy(), DataError, r"numpy ndarray: pass torch\.as_tensor"),
    "lists": (X.tolist(), DataError, r"no tensor .*torch\.as_tensor"),
    "pandas": (pd.DataFrame(X.numpy()), DataError, r"DataFrame: pass torch\.as_tensor"),
    "numpy beside": ((X, X.numpy()), DataError, r"data\[1\] is a numpy ndarray"),
    "nothing": ((), DataError, "no tensor"),
    "no rows": (X[:0], DataError, "0 rows"),
    "no rows in a dataset": (Rows(X[:0]), DataError, "0 rows"),
    "no rows in a loader": (DataLoader(TensorDataset(X[:0])), DataError, "0 rows"),
    "a loader that drops all": (
        DataLoader(Rows(X), batch_size=10, drop_last=True),
        DataError,
        "batch",
    ),
    "a stream": (DataLoader(Stream()), DataError, "does not say how many rows it has"),
    "numpy in a loader": (
        DataLoader(Rows(X.numpy()), collate_fn=list),
        DataError,
        "ndarray|tensor",
    ),
    "nan": (with_entry(torch.nan), DataError, "not finite"),
    "inf": (with_entry(torch.inf), DataError, "not finite"),
    "nan in a loader": (DataLoader(Rows(with_entry(torch.nan)), batch_size=7), DataError, "finite"),
    "double": (X.double(), ArgumentError, r"float64 .* convert one"),
    "half": (X.half(), ArgumentError, r"float16 .* convert one"),
    "integers": (X.long(), ArgumentError, r"int64: pass x\.float\(\)"),
    "booleans": (X > 0, ArgumentError, r"bool: pass x\.float\(\)"),
    "sparse": (X.to_sparse(), DataError, r"is sparse .*to_dense"),
    "complex": (X.to(torch.complex64), DataError, "is complex"),
    "device": (X.to("meta"), ArgumentError, "on meta"),
    "columns": (X[:, :4], ShapeError, r"expected batch \+ \(5,\)"),
    "one row": (X[0], ShapeError, r"x\.unsqueeze\(0\)"),
    "three dims": (torch.zeros(DIM, DIM, DIM), ShapeError, r"expected \(rows, 5\)"),
    "rows differ": ((X, X[:6]), ShapeError, "different numbers of rows"),
    "too many": ((X, X, X, X), ArgumentError, "model takes .* too many positional"),
    "other name": ({"y": X}, ArgumentError, "missing a required argument: 'x'"),
}


@pytest.mark.parametrize("name", DATA)
def test_bad_data_are_refused(name):
    vae = small()
    x, kind, message = DATA[name]
    loads = isinstance(x, DataLoader)
    refused(lambda: fit(vae.model, vae.guide, x, progress=False), kind, message, vae, run=loads)


PROGRAMS = {
    "none": (lambda vae: None, "is None: expected a Pyro"),
    "number": (lambda vae: 3, "is 3: expected a Pyro"),
    "class": (lambda vae: type(vae.model), "is the class VAEModel: pass an instance"),
    "both": (lambda vae: vae, r"has both: pass its \.model"),
    "no data": (lambda vae: lambda: None, r"takes \(\) but data are"),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("role", ["model", "guide"])
def test_what_is_no_model_or_guide_is_refused(role, name):
    vae = small()
    make, message = PROGRAMS[name]
    pair = {"model": vae.model, "guide": vae.guide, role: make(vae)}
    call = lambda: fit(pair["model"], pair["guide"], X, progress=False)  # noqa: E731
    refused(call, ArgumentError, f"{role} .*{message}" if name != "no data" else message, vae)


def test_pairs_that_do_not_fit_are_refused():
    vae = small()
    for model, guide, x, kind, message in (
        (plain, plain_guide, X, ArgumentError, "no parameters"),
        (plain, plain_guide, X[0], ShapeError, r"unsqueeze\(0\)"),
        (vae.guide, vae.model, X, SiteMismatchError, "exchanged"),
        (vae.model, plain_guide, X, SiteMismatchError, "lacks"),
        (plain, vae.guide, X, SiteMismatchError, "lacks"),
    ):
        refused(partial(fit, model, guide, x, progress=False), kind, message, vae, run=True)


OPTIONS = {
    "epochs": ({"num_epochs": 0}, "num_epochs=0: expected an integer"),
    "half an epoch": ({"num_epochs": 0.5}, r"num_epochs=0\.5: expected an integer"),
    "epochs in words": ({"num_epochs": "3"}, "num_epochs='3': expected an integer"),
    "batch size": ({"batch_size": 0}, "batch_size=0: expected an integer"),
    "batch size in words": ({"batch_size": "all"}, "batch_size='all': expected an integer"),
    "patience": ({"patience": 0, "validation": 0.5}, "patience=0: expected an integer"),
    "patience alone": ({"patience": 3}, "patience needs validation"),
    "warm-up": ({"kl_warmup": -1}, "kl_warmup=-1: expected an integer"),
    "gradient norm": ({"max_grad_norm": 0.0}, r"max_grad_norm=0\.0: expected a finite"),
    "gradient norm in words": ({"max_grad_norm": "a"}, "max_grad_norm='a': expected a finite"),
    "share": ({"validation": 1.5}, r"validation=1\.5"),
    "share of nothing": ({"validation": 0.0}, r"validation=0\.0"),
    "all held out": ({"validation": 0.99}, "leaves none to train on"),
    "optimizer": ({"optimizer": 3}, "optimizer is a int"),
    "optimizer in words": ({"optimizer": "adam"}, "optimizer is a str"),
    "made optimizer": (
        {"optimizer": torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)},
        "optimizer is a SGD",
    ),
    "elbo": ({"elbo": "x"}, "elbo"),
    "elbo class": ({"elbo": TraceEnum_ELBO}, "elbo"),
    "resume": ({"resume": 3}, "resume"),
    "resume of nothing": ({"resume": FitResult()}, "resume"),
    "callbacks": ({"callbacks": 3}, "callbacks"),
    **{
        f"seed {s!r}": ({"seed": s}, "seed=.*: expected an integer") for s in (2**40, -1, True, 1.5)
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_out_of_range_are_named(name):
    vae = small()
    options, message = OPTIONS[name]
    call = lambda: fit(vae.model, vae.guide, X, progress=False, **options)  # noqa: E731
    refused(call, ArgumentError, message, vae, run="optimizer" in options)


VALIDATION = {
    "numpy": (X.numpy(), DataError, "numpy ndarray"),
    "nan": (with_entry(torch.nan), DataError, "not finite"),
    "columns": (X[:, :3], ShapeError, "expected batch"),
    "no rows": (X[:0], DataError, "0 rows"),
    "text": ("held out", DataError, "pass a Tensor"),
}


@pytest.mark.parametrize("name", VALIDATION)
def test_bad_validation_data_are_refused(name):
    vae = small()
    x, kind, message = VALIDATION[name]
    call = lambda: fit(vae.model, vae.guide, X, validation=x, progress=False)  # noqa: E731
    refused(call, kind, message, vae)


def test_a_batch_size_with_a_loader_is_refused():
    vae = small()
    loader = DataLoader(Rows(X), batch_size=2)
    call = lambda: fit(vae.model, vae.guide, loader, batch_size=3, progress=False)  # noqa: E731
    refused(call, ArgumentError, "batch_size=3.*DataLoader", vae)
    call = lambda: fit(vae.model, vae.guide, loader, validation=0.5, progress=False)  # noqa: E731
    refused(call, ArgumentError, "second DataLoader", vae)


def test_an_enumerated_site_needs_an_elbo_that_sums_it_out():
    def model(x):
        scale = pyro.param("scale", torch.tensor(1.0))
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(y, scale.exp()), obs=x[:, 0])

    def guide(x):
        pass

    with pytest.raises(ArgumentError, match=r"pass elbo=TraceEnum_ELBO\(\)"):
        fit(model, guide, X, num_epochs=1, progress=False)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    assert fit(model, guide, X, elbo=elbo, num_epochs=1, progress=False).num_epochs == 1


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_contexts_without_gradients(context):
    wanted = small()
    losses = fit(wanted.model, wanted.guide, X, num_epochs=2, seed=0, progress=False).losses
    pyro.clear_param_store()
    vae = small()
    with context():
        found = fit(vae.model, vae.guide, X, num_epochs=2, seed=0, progress=False)
    assert found.losses == losses
    assert found.num_epochs == 2
