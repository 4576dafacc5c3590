"""Certificates beside the truth: each model of the benchmark, with fewer draws."""

import json

import pytest
import torch

from benchmarks.certificate_truth import cases, verdict
from pyro_idvae import certify
from pyro_idvae.errors import NoCertificateError, ShapeError

CASES = {case.name: case for case in cases()}
REFUSED = [name for name, case in CASES.items() if case.kind == "refused"]
BOUNDED = [name for name, case in CASES.items() if case.kind != "refused"]


def test_there_are_enough_of_them():
    assert len(CASES) >= 50
    assert len(REFUSED) >= 25
    assert len(BOUNDED) >= 25


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_be_refused_is(name):
    case = CASES[name]
    with pytest.raises((NoCertificateError, ShapeError), match=case.words):
        certify(case.model, case.arguments)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_truth_lies_within_the_bounds(name, monkeypatch):
    # What is granted rests on no number of moves.
    monkeypatch.setattr("pyro_idvae.programs.moves.MOST", 16)
    case = CASES[name]
    torch.manual_seed(0)
    found = verdict(case)
    if isinstance(found, NoCertificateError):
        raise found
    truth, error = case.truth(200)
    assert found.low - 4 * (error + found.standard_error) <= truth
    assert (found.kind == "estimate") == (case.kind == "estimate")
    if found.high is not None:
        assert truth <= found.high + 4 * error
    alone = found.kind == "certificate" and found.low_per_coordinate is None
    assert alone == (case.kind == "upper")
    assert json.loads(found.to_json())["low"] == found.low
    assert f"{found.high if alone else found.low:.3f}" in str(found)


def test_the_likelihood_alone_would_mislead():
    """What makes the checks worth their runs: most of these are outside the bare window."""
    outside = 0
    for name in (
        "factor -50 z²",
        "covariates of z that undo f",
        "data moved by f(z)",
        "fed with 0 z",
        "densities scaled by 0.1",
        "noise scale of z",
        "mask of x",
    ):
        case = CASES[name]
        low, high = case.bare.information_bounds()
        truth, error = case.truth(200)
        outside += truth + 4 * error < low or truth - 4 * error > high
    assert outside >= 6
