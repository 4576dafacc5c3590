"""Fits killed at random moments: what they come to is what they would have come to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# In 15 epochs of a loader there is time for fewer kills; the fit begins anew then.
KINDS = ("plain", "pyro_with_a_schedule", "workers", "patience")


def killed(kind, kills, seed):
    """Return what the script found; it fails if a killed fit came to anything else."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "infer" / "kills.py"), kind, str(kills), str(seed)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


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
