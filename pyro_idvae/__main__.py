# SPDX-License-Identifier: Apache-2.0
"""The demo: python -m pyro_idvae [--out DIR] [--seed N] [--epochs N]."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl


def main() -> None:
    """Parse the command line and run the demo."""
    parser = argparse.ArgumentParser(
        prog="python -m pyro_idvae",
        description="An ordinary and an identifiable VAE on real digits, with exact posteriors.",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for results")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--epochs", type=int, default=150, help="epochs a model")
    parser.add_argument("--draws", type=int, default=250, help="NUTS draws a chain")
    options = parser.parse_args()
    mpl.use("agg")
    from pyro_idvae.experiments import demo

    demo.run(options.out, seed=options.seed, num_epochs=options.epochs, num_draws=options.draws)


if __name__ == "__main__":
    main()
