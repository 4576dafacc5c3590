"""What is no model, or no guide of it."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, SiteMismatchError
from tests.doors.common import data, plain, plain_guide, refused, small
from tests.doors.test_data import FUNCTIONS, PAIRS

X = data()


def without_data():
    pass


PROGRAMS = {
    "none": (lambda vae: None, "is None: expected a Pyro"),
    "number": (lambda vae: 3, "is 3: expected a Pyro"),
    "text": (lambda vae: "model.pt", "is 'model.pt': expected a Pyro"),
    "tensor": (lambda vae: X, "is a torch Tensor: expected a Pyro"),
    "class": (lambda vae: type(vae.model), r"is the class VAEModel: pass an instance"),
    "both": (lambda vae: vae, r"is a IDVAE, which has both: pass its \.model"),
    "no data": (lambda vae: without_data, r"takes \(\) but data are data\[0\]"),
    "abstract": (lambda vae: torch.nn.Module(), "cannot be run on"),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("function", [*FUNCTIONS, "vectorized kernel"])
def test_what_is_no_model_is_refused(function, name):
    vae = small()
    make, message = PROGRAMS[name]
    if function == "vectorized kernel":
        call = lambda: idvae.VectorizedHMC(make(vae)).setup(3, X)  # noqa: E731
    else:
        call = lambda: FUNCTIONS[function](make(vae), vae.guide, X)  # noqa: E731
    refused(call, ArgumentError, message, vae)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("function", PAIRS)
def test_what_is_no_guide_is_refused(function, name):
    if function == "log_evidence" and name == "none":
        return  # evidence needs no guide
    vae = small()
    make, message = PROGRAMS[name]
    refused(lambda: FUNCTIONS[function](vae.model, make(vae), X), ArgumentError, message, vae)


@pytest.mark.parametrize("function", PAIRS)
def test_guides_of_other_models_are_refused(function):
    vae = small()

    def wider(x):
        with pyro.plate("data", len(x)):
            pyro.sample("latent", dist.Normal(torch.zeros(len(x), 2), 1.0))

    call = FUNCTIONS[function]
    refused(lambda: call(vae.guide, vae.model, X), SiteMismatchError, "were exchanged", vae)
    refused(lambda: call(vae.model, plain_guide, X), SiteMismatchError, r"lacks \['latent'\]", vae)
    refused(lambda: call(plain, vae.guide, X), SiteMismatchError, r"lacks \['z'\]", vae)
    message = "1 event dimensions in the model and 0 in"
    refused(lambda: call(vae.model, wider, X[:2]), SiteMismatchError, message, vae)


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f not in ("certify", "laplace")])
def test_weights_that_are_not_finite_are_refused(function):
    vae = small()
    with torch.no_grad():
        next(vae.model.parameters()).fill_(torch.nan)
    with pytest.raises(ArgumentError, match="weights are not finite"):
        FUNCTIONS[function](vae.model, vae.guide, X)


def test_errors_of_a_model_are_told_with_the_data_it_was_run_on():
    def broken(x):
        raise KeyError("genes")

    with pytest.raises(ArgumentError, match=r"run on data\[0\] of shape \(7, 5\) .*KeyError: 'ge"):
        idvae.mcmc(broken, X)
