"""Processes that share blocks of rows: the same draws, evidence and report as one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyro_idvae.infer.ranks import Ranks, agreed_seed, shared

SCRIPT = Path(__file__).parent / "ranks_script.py"


def launch(number, out, *arguments):
    """Run the script by torchrun, and return what it wrote."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={number}", str(SCRIPT), str(out), *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def results(number, folder, seed):
    folder.mkdir()
    launch(number, folder, seed)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(number)]


def check_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_one_process_shares_with_nobody():
    assert Ranks.here() == (0, 1)
    assert shared([1, 2, 3], lambda own: [2 * part for part in own]) == [2, 4, 6]
    assert agreed_seed(7) == 7


def test_two_processes_find_what_one_does_bit_for_bit(tmp_path):
    (wanted,) = results(1, tmp_path / "one", "3")
    assert wanted["posterior z"].shape == (2, 30, 10, 2)
    for found in results(2, tmp_path / "two", "3"):
        check_same(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 4, 5])
def test_any_number_of_processes_does(tmp_path, number):
    (wanted,) = results(1, tmp_path / "one", "4")
    for found in results(number, tmp_path / "more", "4"):
        check_same(found, wanted)


@pytest.mark.slow
def test_without_a_seed_processes_agree_on_one(tmp_path):
    first, second = results(2, tmp_path / "two", "none")
    check_same(first, second)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raise", ["RankError: process 1 of 2 failed with TypeError", "TypeError: "]),
        pytest.param(
            "rows",
            [
                "RankError: process 1 of 2 has 2 blocks of rows, this one, 0, 4",
                "RankError: process 0 of 2 has 4 blocks of rows, this one, 1, 2",
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_one_process_fails_with_all_hear(tmp_path, kind, words):
    launch(2, tmp_path, "0", kind)
    for rank, wanted in enumerate(words):
        assert (tmp_path / f"{rank}.txt").read_text().startswith(wanted)
