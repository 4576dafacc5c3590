# SPDX-License-Identifier: Apache-2.0
"""The demo: python -m pyro_idvae [--out DIR] [--seed N] [--epochs N]."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from pyro_idvae.experiments.options import Parser, make_folder, seed, whole_number


def main() -> None:
    """Parse the command line and run the demo."""
    parser = Parser(
        prog="python -m pyro_idvae",
        description="An ordinary and an identifiable VAE on real digits, with exact posteriors.",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for results")
    parser.add_argument("--seed", type=seed, default=0, help="seed of everything random")
    parser.add_argument("--epochs", type=whole_number(1), default=150, help="epochs a model")
    parser.add_argument("--draws", type=whole_number(4), default=250, help="NUTS draws a chain")
    options = parser.parse_args()
    make_folder(parser, options.out)
    mpl.use("agg")
    from pyro_idvae.experiments import demo
    from pyro_idvae.experiments.endings import interruptible

    with interruptible(f"what was finished is in {options.out}"):
        demo.run(options.out, seed=options.seed, num_epochs=options.epochs, num_draws=options.draws)


if __name__ == "__main__":
    main()
