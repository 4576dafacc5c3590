"""Memory stays flat: over long fits and many draws, and over calls that are made again."""

import json
import sys
from pathlib import Path

import pytest

from tests.processes import output

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc"),
]

# What the allocator may hold on to, in MB.
GROWTH = {
    "steps": 4.0,
    "side_by_side": 8.0,
    "nuts": 4.0,
    "guide_draws": 4.0,
    "reports": 4.0,
    "samplings": 4.0,
}


def sizes_of(name):
    # Large blocks go back at once: what is measured is what is held, not what is kept in hand.
    settings = {"MPLBACKEND": "Agg", "MALLOC_MMAP_THRESHOLD_": "65536"}
    found = output(sys.executable, "-W", "ignore", "-m", "tests.soak.work", name, **settings)
    return json.loads(found.splitlines()[-1])


@pytest.mark.parametrize("name", GROWTH)
def test_the_second_half_needs_no_more_than_the_first(name):
    sizes = sizes_of(name)
    assert len(sizes) == 5
    assert max(sizes[3:]) - max(sizes[:2]) < GROWTH[name], sizes


def test_a_million_weights_of_a_row_need_no_more_than_a_third_of_them():
    _, some, many = sizes_of("weights")
    assert many - some < 8.0
