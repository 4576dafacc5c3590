"""What reports and pictures cannot be made of."""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from tests.doors.common import data, small, told

X = data()


@cache
def vae():
    return small()


@cache
def made():
    """Return draws and reports of them."""
    torch.manual_seed(0)
    model, guide = vae().model, vae().guide
    nuts = idvae.from_mcmc({"latent": torch.randn(4, 200, 7, 2)}, model, X)
    return {
        "svi": idvae.from_guide(model, guide, X, num_samples=200),
        "nuts": nuts,
        "rep": idvae.collapse_report(nuts),
        "cert": idvae.certify(vae().likelihood),
        "same": idvae.consistency([torch.randn(30, 2), torch.randn(30, 2)]),
        "cal": idvae.calibrate(model, X, guide=guide, num_replications=10, num_draws=9),
    }


REFUSED = [
    (
        lambda: idvae.collapse_report(3),
        ArgumentError,
        "data is a int: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.collapse_report("a.nc"),
        ArgumentError,
        "data is a str: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.collapse_report(None),
        ArgumentError,
        "data is a NoneType: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.collapse_report(made()["nuts"], epsilon=0),
        ArgumentError,
        "epsilon=0: expected a finite number above 0",
    ),
    (
        lambda: idvae.collapse_report(made()["nuts"], confidence=0.4),
        ArgumentError,
        "confidence=0.4: expected a finite number above 0.5 below 1",
    ),
    (
        lambda: idvae.collapse_report(made()["nuts"], var_names=["foo"]),
        ArgumentError,
        "var_names=['foo']: expected some of ['latent']",
    ),
    (
        lambda: idvae.collapse_report(made()["nuts"], var_names="foo"),
        ArgumentError,
        "var_names='foo': expected some of ['latent']",
    ),
    (
        lambda: idvae.collapse_report(made()["nuts"], var_names=3),
        ArgumentError,
        "var_names=3: expected names of sites",
    ),
    (
        lambda: idvae.collapse_report(made()["nuts"], var_names=[]),
        ArgumentError,
        "var_names=[]: expected some of ['latent']",
    ),
    (
        lambda: idvae.compare(3, made()["nuts"]),
        ArgumentError,
        "data is a int: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.compare(made()["svi"], None),
        ArgumentError,
        "data is a NoneType: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.compare(made()["nuts"], made()["svi"]),
        ArgumentError,
        "svi has inference_method='mcmc': expected draws of a guide; pass what",
    ),
    (
        lambda: idvae.compare(made()["svi"], made()["nuts"], var_names=["foo"]),
        ArgumentError,
        "var_names=['foo']: 'foo' is not among the latents ['latent']",
    ),
    (
        lambda: idvae.compare(made()["svi"], made()["nuts"], probs=(0.0,)),
        ArgumentError,
        "probs entry=0.0: expected a finite number above 0 below 1",
    ),
    (
        lambda: idvae.compare(made()["svi"], made()["nuts"], probs="a"),
        ArgumentError,
        "probs='a': expected probabilities, e.g. (0.5, 0.9)",
    ),
    (
        lambda: idvae.compare(made()["svi"], made()["nuts"], probs=3),
        ArgumentError,
        "probs=3: expected probabilities, e.g. (0.5, 0.9)",
    ),
    (
        lambda: idvae.compare(made()["svi"], made()["nuts"], probs=()),
        ArgumentError,
        "probs=(): expected at least one, e.g. (0.5, 0.9)",
    ),
    *(
        (lambda runs=runs: idvae.consistency(runs()), kind, message)
        for runs, kind, message in (
            (lambda: 3, ArgumentError, "runs=3: expected a list or a dict of pairs (model, guide)"),
            (lambda: None, ArgumentError, "runs=None: expected a list or a dict of pairs"),
            (lambda: "ab", ArgumentError, "runs='ab': expected a list or a dict of pairs"),
            (lambda: X, ArgumentError, "runs is a torch Tensor: expected a list or a dict"),
            (X.numpy, ArgumentError, "runs is a numpy ndarray: expected a list or"),
            (lambda: made()["svi"], ArgumentError, "expected a list or a dict of pairs (model,"),
            (vae, ArgumentError, "expected a list or a dict of pairs (model, guide)"),
            (lambda: [], ArgumentError, "runs has 0: expected at least two to compare"),
            (lambda: [X], ArgumentError, "runs has 1: expected at least two to compare"),
            (lambda: {"a": X}, ArgumentError, "runs has 1: expected at least two to compare"),
            (lambda: [X, 3], ArgumentError, "run 1 is 3: expected one of pairs (model, guide),"),
            (lambda: {"a": X, "b": None}, ArgumentError, "b is None: expected one of pairs"),
            (lambda: [X, "a.nc"], ArgumentError, "run 1 is 'a.nc': expected one of pairs"),
            (lambda: [X, vae().likelihood], ArgumentError, "run 1 is a pyro_idvae InjectiveNormal"),
            (lambda: [X, (1, 2, 3)], ArgumentError, "run 1 is a tuple of 3: expected a model and"),
            (lambda: [X, X[0]], ShapeError, "run 1 has shape (5,): expected posterior means of"),
            (lambda: [X, X[:, :0]], ShapeError, "run 1 has shape (7, 0): expected posterior"),
            (lambda: [X, X[:6]], ShapeError, "run 0 has 7 rows but run 1 6: give all runs the"),
            (lambda: [X, X / 0], DataError, "run 1 has entries that are not finite: leave these"),
            (
                lambda: [X, np.array([["a"]])],
                ArgumentError,
                "run 1 holds no real numbers: expected",
            ),
            (lambda: [X, X.numpy() * 1j], ArgumentError, "run 1 holds no real numbers: expected"),
            (lambda: [X[:1], X[:1]], ArgumentError, "the runs have 1 rows: expected at least 24"),
        )
    ),
    (
        lambda: idvae.discrete_information([[0.5, 0.6]], [0.5, 0.5]),
        ArgumentError,
        "probabilities is no distribution: expected numbers from 0 that sum to 1",
    ),
    (
        lambda: idvae.discrete_information([[0.5, 0.5]], [0.5]),
        ShapeError,
        "prior_probabilities has shape (1,): expected (..., C), two categories up",
    ),
    (
        lambda: idvae.discrete_information("a", [0.5]),
        ArgumentError,
        "probabilities holds no numbers: expected an array, (..., C)",
    ),
    (
        lambda: idvae.discrete_information(None, None),
        ShapeError,
        "probabilities has shape (): expected (..., C), two categories up",
    ),
    (
        lambda: idvae.discrete_information([[-0.5, 1.5]], [0.5, 0.5]),
        ArgumentError,
        "probabilities is no distribution: expected numbers from 0 that sum to 1",
    ),
    (
        lambda: idvae.discrete_information([0.5, 0.5], [0.5, 0.5]),
        ShapeError,
        "probabilities has shape (2,) and prior_probabilities (2,): expected (..., N, C)",
    ),
    (
        lambda: idvae.discrete_information([[float("nan"), 1.0]], [0.5, 0.5]),
        ArgumentError,
        "probabilities is no distribution: expected numbers from 0 that sum to 1",
    ),
    (
        lambda: idvae.discrete_information(np.zeros((0, 2)), [0.5, 0.5]),
        ShapeError,
        "probabilities has shape (0, 2): it is empty",
    ),
    (
        lambda: idvae.plot_collapse(3),
        ArgumentError,
        "report is a int: expected a CollapseReport; call collapse_report(data)",
    ),
    (
        lambda: idvae.plot_collapse(made()["nuts"]),
        ArgumentError,
        "report is a InferenceData: expected a CollapseReport; call collapse_report(data)",
    ),
    (
        lambda: idvae.plot_collapse(made()["rep"], ax=3),
        ArgumentError,
        "ax is a int: expected matplotlib axes",
    ),
    *(
        (lambda options=options: idvae.plot_consistency(made()["same"], **options), kind, message)
        for options, kind, message in (
            ({"pair": 3}, ArgumentError, "pair=3: expected names of two runs"),
            ({"pair": ("run 0",)}, ArgumentError, "pair=('run 0',): expected two of ['run 0',"),
            ({"pair": ("run 0", "a")}, ArgumentError, "pair=('run 0', 'a'): expected two of"),
            ({"pair": ("run 1",) * 2}, ArgumentError, "pair=('run 1', 'run 1'): expected two of"),
            ({"axes": 3}, ArgumentError, "axes is a int: expected matplotlib axes"),
            ({"axes": []}, ShapeError, "axes has 0 axes: expected 2"),
        )
    ),
    (
        lambda: idvae.plot_consistency(made()["rep"]),
        ArgumentError,
        "report is a CollapseReport: expected a Consistency; call consistency(runs)",
    ),
    (
        lambda: idvae.plot_compare(3, made()["nuts"]),
        ArgumentError,
        "data is a int: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], var_name="foo"),
        ArgumentError,
        "var_name='foo': expected a latent of both, one of ['latent']",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], row=7),
        ArgumentError,
        "row=7: expected an integer from -7 to 6",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], row="a"),
        ArgumentError,
        "row='a': expected an integer from -7 to 6",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], num_latents=0),
        ArgumentError,
        "num_latents=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], labels=("a",)),
        ArgumentError,
        "labels=('a',): expected two names",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], labels=3),
        ArgumentError,
        "labels=3: expected two names",
    ),
    (
        lambda: idvae.plot_compare(made()["svi"], made()["nuts"], axes=3),
        ShapeError,
        "axes has 1 axes: 2 latents need 2 by 2; set num_latents",
    ),
    (
        lambda: idvae.evaluation_table(3),
        ArgumentError,
        "evaluations is a int: expected a dict of what evaluate returns, {'VAE': evaluation}",
    ),
    (
        lambda: idvae.evaluation_table({}),
        ArgumentError,
        "evaluations is empty: there is no row to make",
    ),
    (
        lambda: idvae.evaluation_table({"a": made()["cert"]}),
        ArgumentError,
        "evaluations['a'] is a Certificate: pass what evaluate returns",
    ),
    (
        lambda: idvae.plot_directions(3),
        ArgumentError,
        "report is a int: expected a CollapseReport; call collapse_report(data)",
    ),
    (
        lambda: idvae.plot_directions(made()["rep"], num_directions=0),
        ArgumentError,
        "num_directions=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.plot_directions(made()["rep"], num_directions="a"),
        ArgumentError,
        "num_directions='a': expected an integer of at least 1",
    ),
    (
        lambda: idvae.plot_latent_walk(3, torch.zeros(2)),
        ArgumentError,
        "likelihood is a int: expected one, e.g. vae.likelihood",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(3)),
        ShapeError,
        "start has shape (3,): expected the last dimension to be 2",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, np.zeros(2)),
        ArgumentError,
        "start is a ndarray: expected a torch.Tensor",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), dims=[5]),
        ArgumentError,
        "dims=[5]: the likelihood has 2 latent dimensions",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), dims=3),
        ArgumentError,
        "dims=3: expected latent dimensions",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), limits=(1, 0)),
        ArgumentError,
        "limits=(1, 0): expected the least value before the greatest",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), limits=3),
        ArgumentError,
        "limits=3: expected the least value and the greatest",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), image_shape=(2, 2)),
        ShapeError,
        "image_shape=(2, 2) has 4 pixels but an observation 5",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), image_shape=3),
        ArgumentError,
        "image_shape=3: expected a height and a width",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), num_steps=0),
        ArgumentError,
        "num_steps=0: expected an integer of at least 2",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), feature_names=["a"]),
        ShapeError,
        "feature_names has 1 names but x 5 features",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.zeros(2), foo=3),
        ArgumentError,
        "['foo'] is no argument of forward: it takes z, covariates",
    ),
    (
        lambda: idvae.plot_latent_walk(vae().likelihood, torch.full((2,), float("nan"))),
        ArgumentError,
        "start=[nan, nan]: expected finite numbers",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, num_points=1),
        ArgumentError,
        "num_points=1: expected an integer of at least 2",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, site="foo"),
        ArgumentError,
        "site='foo': expected one or two of the latent sites ['latent']",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, site=3),
        ArgumentError,
        "site=3: expected names of sites",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, row=7),
        ArgumentError,
        "row=7: expected an integer from -7 to 6",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, row="a"),
        ArgumentError,
        "row='a': expected an integer from -7 to 6",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, dims=[7]),
        ArgumentError,
        "dims=[7]: the site 'latent' has 2 dimensions; give one or two of one site, or",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, dims=3),
        ArgumentError,
        "dims=3: expected one or two dimensions",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, dims=[0, 1, 1]),
        ArgumentError,
        "dims=[0, 1, 1]: expected one or two dimensions",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, limits=(1, 0)),
        ArgumentError,
        "limits=(1, 0): expected the least value before the greatest, or such a pair for",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, limits="a"),
        ArgumentError,
        "limits='a': expected the least value before the greatest, or such a pair for",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, limits=(float("nan"), 1)),
        ArgumentError,
        "limits=(nan, 1): expected the least value before the greatest, or such a pair",
    ),
    (
        lambda: idvae.plot_likelihood_surface(vae().model, X, at=3, num_points=3),
        ArgumentError,
        "at is a int: expected values by site",
    ),
    (
        lambda: idvae.plot_likelihood_surface(
            vae().model, X, at={"foo": torch.zeros(2)}, num_points=3
        ),
        ArgumentError,
        "at has ['foo']: the latent sites are ['latent']",
    ),
    (
        lambda: idvae.plot_likelihood_surface(
            vae().model, X, at={"latent": torch.zeros(3)}, num_points=3
        ),
        ShapeError,
        "at['latent'] has shape (3,): expected (7, 2)",
    ),
    (lambda: idvae.plot_losses(3), ArgumentError, "fits is a int: pass what fit returns"),
    (
        lambda: idvae.plot_losses({}),
        ArgumentError,
        "fits holds no epochs: there is nothing to plot",
    ),
    (
        lambda: idvae.plot_losses({"a": 3}),
        ArgumentError,
        "fits['a'] is a int: pass what fit returns",
    ),
    (
        lambda: idvae.plot_losses(idvae.FitResult()),
        ArgumentError,
        "fits holds no epochs: there is nothing to plot",
    ),
    (
        lambda: idvae.plot_prior_posterior(3),
        ArgumentError,
        "data is a int: expected ArviZ data of from_guide, from_mcmc, mcmc",
    ),
    (
        lambda: idvae.plot_prior_posterior(made()["nuts"], var_name="foo"),
        ArgumentError,
        "var_name='foo': expected one of ['latent']",
    ),
    (
        lambda: idvae.plot_prior_posterior(made()["nuts"], num_data=0),
        ArgumentError,
        "num_data=0: expected an integer of at least 1",
    ),
    (
        lambda: idvae.plot_prior_posterior(made()["nuts"], num_latents="a"),
        ArgumentError,
        "num_latents='a': expected an integer of at least 1",
    ),
    (
        lambda: idvae.plot_prior_posterior(made()["nuts"], axes=3),
        ArgumentError,
        "axes is a int: expected matplotlib axes",
    ),
    (
        lambda: idvae.plot_rate_window(3),
        ArgumentError,
        "certificates is a int: pass what certify returns, or a dict of such",
    ),
    (
        lambda: idvae.plot_rate_window({}),
        ArgumentError,
        "certificates is empty: there is no window to plot",
    ),
    (
        lambda: idvae.plot_rate_window({"a": 3}),
        ArgumentError,
        "certificates['a'] is a int: pass what certify returns",
    ),
    (
        lambda: idvae.plot_rate_window(made()["cert"], measured=3),
        ArgumentError,
        "measured['normal']=3: expected a pair (value, standard error)",
    ),
    (
        lambda: idvae.plot_rate_window({"a": made()["cert"]}, measured={"b": 3}),
        ArgumentError,
        "measured has ['b'], which have no certificate: expected names of ['a']",
    ),
    (
        lambda: idvae.plot_transport(3),
        ArgumentError,
        "injection is a int: expected a BrenierInjection, e.g. likelihood.injection",
    ),
    (
        lambda: idvae.plot_transport(vae().likelihood),
        ArgumentError,
        "injection is a InjectiveNormal: expected a BrenierInjection, e.g.",
    ),
    (
        lambda: idvae.plot_transport(vae().likelihood.injection, limits=(1, 0)),
        ArgumentError,
        "limits=(1, 0): expected the least value before the greatest",
    ),
    (
        lambda: idvae.plot_transport(vae().likelihood.injection, num_lines=0),
        ArgumentError,
        "num_lines=0: expected an integer of at least 2",
    ),
    (
        lambda: idvae.plot_transport(vae().likelihood.injection, dims=(0, 9)),
        ArgumentError,
        "dims=(0, 9): expected one or two of 2 dimensions",
    ),
    (
        lambda: idvae.plot_transport(vae().likelihood.injection, dims=3),
        ArgumentError,
        "dims=3: expected one or two dimensions",
    ),
    (
        lambda: idvae.plot_calibration(3),
        ArgumentError,
        "calibration is a int: expected a Calibration; call calibrate",
    ),
    (
        lambda: idvae.plot_calibration(made()["cal"], ax=3),
        ArgumentError,
        "ax is a int: expected matplotlib axes",
    ),
    (
        lambda: idvae.plot_transport(vae().likelihood.injection, axes=3),
        ArgumentError,
        "axes is a int: expected matplotlib axes",
    ),
]


@pytest.fixture(autouse=True)
def closed():
    """Leave no figure open."""
    yield
    plt.close("all")


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_bad_arguments_are_named(call, kind, message):
    told(call, kind, message)
