"""Fits by several processes: those of one, up to rounding or in law, and gone on with alike."""

import numpy as np
import pytest
import torch

from pyro_idvae import fit
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.fit.batches import TensorBatches
from pyro_idvae.infer.ranks import Ranks
from tests.infer.fit_ranks_script import Guide, Model, data, given_noise
from tests.processes import printed

MORE = ("many", "whole", "accumulated", "loader", "validated")


def results(*cases):
    return printed("infer/fit_ranks_script.py", *cases)


@pytest.fixture(scope="module")
def more():
    return results(*MORE)


def test_with_its_noise_given_a_fit_of_two_processes_is_that_of_one():
    """Of 97 rows in batches of 16 the last has one row, and one of the processes none."""
    fits = results("noise")["noise"]
    check_alike(fits)
    (one,), several = fits
    for own in several:
        np.testing.assert_allclose(own["kl"], one["kl"], rtol=1e-4)
    summed = given_noise(0, batch_size=8, accumulate=2)
    np.testing.assert_allclose(summed["weights"], one["weights"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(summed["losses"], one["losses"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["many", "whole", "accumulated"])
def test_with_its_noise_given_fits_of_several_processes_are_that_of_one(more, case):
    check_alike(more[case])


def check_alike(fits):
    (one,), *others = fits
    for several in others:
        assert len({own["digest"] for own in several}) == 1
        for own in several:
            np.testing.assert_allclose(own["weights"], one["weights"], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(own["losses"], one["losses"], rtol=1e-5)
            np.testing.assert_allclose(own["validation"], one["validation"], rtol=1e-5)


def test_a_fit_of_two_processes_goes_on_bit_for_bit():
    first, second, whole, alone = results("resumed")["resumed"]
    assert first[0]["epochs"] == 4
    assert first[0]["losses"] == whole[0]["losses"][:4]
    assert second[0] == second[1] == whole[0] == whole[1]
    # One process goes on with what two have done, with other random numbers.
    assert alone[0]["epochs"] == 10
    assert alone[0]["losses"][:8] == whole[0]["losses"]


@pytest.mark.slow
def test_a_sampler_of_shares_feeds_each_process(more):
    first, second = more["loader"]
    assert first == second
    assert first["losses"][-1] < first["losses"][0]


@pytest.mark.slow
def test_processes_that_validate_on_shares_agree_when_to_stop(more):
    first, second = more["validated"]
    assert first == second
    assert 1 < len(first["validation"]) < 30


def test_a_request_to_one_process_ends_all_and_loaders_of_all_rows_are_refused():
    found = results("stopped", "plain loader")
    for own in found["stopped"]:
        assert own["interrupted"]
        assert own["epochs"] == 3
    assert found["stopped"][0] == found["stopped"][1]
    for said in found["plain loader"]:
        assert said.startswith("ArgumentError: data is a DataLoader that gives all rows to each")
        assert "DistributedSampler" in said


def test_shares_of_a_batch_are_the_batch():
    x = torch.arange(11.0)
    parts = [
        list(TensorBatches(((x,), {}), 4, Ranks(rank, 3)).batches(torch.Generator().manual_seed(0)))
        for rank in range(3)
    ]
    whole = TensorBatches(((x,), {}), 4).batches(torch.Generator().manual_seed(0))
    for shares, ((batch,), _) in zip(zip(*parts, strict=True), whole, strict=True):
        joined = torch.cat([share[0][0] for share in shares if share is not None])
        assert sorted(joined.tolist()) == sorted(batch.tolist())
    assert sum(part[-1] is None for part in parts) == 0
    with pytest.raises(ArgumentError, match="batch_size=2 with 3 processes"):
        TensorBatches(((x,), {}), 2, Ranks(2, 3)).first()


def test_accumulate_is_a_number_of_batches():
    for value in (0, -1, 1.5, "2"):
        with pytest.raises(ArgumentError, match="accumulate"):
            fit(Model(), Guide(), data(), accumulate=value, progress=False)


@pytest.mark.slow
def test_fits_of_two_processes_killed_again_and_again():
    found = results("killed")["killed"]
    assert len(found["moments"]) == 20
    assert len(set(found["moments"])) >= 8
