# SPDX-License-Identifier: Apache-2.0
"""Run an experiment by name."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyro_idvae.experiments import digits


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m pyro_idvae.experiments", description=__doc__)
    parser.add_argument("name", choices=["digits"], help="the experiment")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for CSV and PNG")
    parser.add_argument("--seeds", type=int, default=5, help="runs a model")
    parser.add_argument("--epochs", type=int, default=300, help="epochs a run")
    parser.add_argument("--samples", type=int, default=2000, help="importance samples an image")
    options = parser.parse_args()
    digits.run(
        options.out / options.name,
        num_seeds=options.seeds,
        num_epochs=options.epochs,
        num_samples=options.samples,
    )


if __name__ == "__main__":
    main()
