"""Fits killed at random moments: what they come to is what they would have come to."""

import pytest

from tests.processes import printed

# In 15 epochs of a loader there is time for fewer kills; the fit begins anew then.
KINDS = ("plain", "pyro_with_a_schedule", "workers", "patience")


def killed(kind, kills, seed):
    """Return what the script found; it fails if a killed fit came to anything else."""
    return printed("infer/kills.py", kind, kills, seed)


def test_a_fit_that_was_killed_is_the_fit_that_was_not():
    found = killed("plain", 3, 1)
    assert len(found["moments"]) == 3
    assert found["opened"] > 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fits_killed_again_and_again(kind):
    found = killed(kind, 25, 0)
    assert len(found["moments"]) == 25
    assert len(set(found["moments"])) >= 8
    assert found["opened"] >= 50
