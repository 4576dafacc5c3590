# SPDX-License-Identifier: Apache-2.0
"""Run an experiment by name; NAME --help lists its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyro_idvae.experiments import digits, mixture, pca


def _add_classical(
    parser: argparse.ArgumentParser, *, num_data: int, num_samples: int, num_steps: int
) -> None:
    parser.add_argument("--data", type=int, default=num_data, help="observations (%(default)s)")
    parser.add_argument("--chains", type=int, default=4, help="chains (%(default)s)")
    parser.add_argument(
        "--samples", type=int, default=num_samples, help="draws a chain (%(default)s)"
    )
    parser.add_argument(
        "--warmup", type=int, default=500, help="NUTS steps before them (%(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=num_steps, help="optimiser steps of a guide (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (%(default)s)")
    parser.add_argument(
        "--sequential", action="store_true", help="run chains in this process, one by one"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pyro_idvae.experiments", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--out", type=Path, default=Path("out"), help="results go to OUT/NAME (%(default)s)"
    )
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    one = names.add_parser("digits", parents=[common], help="VAE and IDVAE on real digits")
    one.add_argument("--seeds", type=int, default=5, help="runs a model (%(default)s)")
    one.add_argument("--epochs", type=int, default=300, help="epochs a run (%(default)s)")
    one.add_argument(
        "--samples", type=int, default=2000, help="importance samples an image (%(default)s)"
    )
    _add_classical(
        names.add_parser(
            "mixture",
            parents=[common],
            help="two Normals fitted to one cluster, two that overlap and two apart",
        ),
        num_data=10_000,
        num_samples=500,
        num_steps=2500,
    )
    _add_classical(
        names.add_parser("pca", parents=[common], help="probabilistic PCA with a spare latent"),
        num_data=500,
        num_samples=1000,
        num_steps=3000,
    )
    return parser


def main() -> None:
    """Parse the command line and run."""
    options = _parser().parse_args()
    out = options.out / options.name
    if options.name == "digits":
        digits.run(
            out,
            num_seeds=options.seeds,
            num_epochs=options.epochs,
            num_samples=options.samples,
        )
        return
    run = mixture.run if options.name == "mixture" else pca.run
    run(
        out,
        num_data=options.data,
        num_samples=options.samples,
        warmup_steps=options.warmup,
        num_chains=options.chains,
        num_steps=options.steps,
        parallel=not options.sequential,
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
