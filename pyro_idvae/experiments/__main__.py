# SPDX-License-Identifier: Apache-2.0
"""Run an experiment by name; NAME --help lists its options."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pyro_idvae.experiments import (
    consistency,
    digits,
    floors,
    mixture,
    pca,
    pinwheel,
    remedies,
    text,
)
from pyro_idvae.experiments.endings import interruptible
from pyro_idvae.experiments.ledger import EarlierRunError
from pyro_idvae.experiments.options import Parser, make_folder, seed, whole_number

LEAST_DRAWS = 20
"""Draws that a collapse report takes at least."""


def _add_classical(parser: Parser, *, num_data: int, num_samples: int, num_steps: int) -> None:
    for name, minimum, default, what in (
        ("data", 2, num_data, "observations"),
        ("chains", 1, 4, "chains"),
        ("samples", LEAST_DRAWS, num_samples, "draws a chain"),
        ("warmup", 0, 500, "NUTS steps before them"),
        ("steps", 2, num_steps, "optimiser steps of a guide"),
    ):
        parser.add_argument(
            f"--{name}", type=whole_number(minimum), default=default, help=f"{what} (%(default)s)"
        )
    parser.add_argument("--seed", type=seed, default=0, help="seed of everything (%(default)s)")
    parser.add_argument(
        "--sequential", action="store_true", help="run chains in this process, one by one"
    )


def _add_seeds(parser: Parser, *, of: str, minimum: int = 1, default: int = 5) -> None:
    parser.add_argument(
        "--seeds", type=whole_number(minimum), default=default, help=f"runs a {of} (%(default)s)"
    )


def _add_epochs(parser: Parser, default: int = 300) -> None:
    parser.add_argument(
        "--epochs", type=whole_number(1), default=default, help="epochs a run (%(default)s)"
    )


def _add_quick(parser: Parser, what: str) -> None:
    parser.add_argument("--quick", action="store_true", help=f"{what}, to see that it runs")


def _add_budget(parser: Parser, *, of: str, seconds: int) -> None:
    _add_seeds(parser, of=of)
    parser.add_argument(
        "--seconds",
        type=whole_number(1),
        default=seconds,
        help="processor time a run, in seconds (%(default)s)",
    )
    _add_quick(parser, "one seed of a second")


def _add_contest(parser: Parser, *, of: str, seconds: int, samples: int) -> None:
    _add_budget(parser, of=of, seconds=seconds)
    parser.add_argument(
        "--samples",
        type=whole_number(2),
        default=samples,
        help="draws of the guide for each of the data (%(default)s)",
    )


def _parser() -> Parser:
    parser = Parser(prog="python -m pyro_idvae.experiments", description=__doc__)
    common = Parser(add_help=False)
    common.add_argument(
        "--out", type=Path, default=Path("out"), help="results go to OUT/NAME (%(default)s)"
    )
    common.add_argument(
        "--resume", action="store_true", help="go on with the rows that are in OUT/NAME"
    )
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    one = names.add_parser("digits", parents=[common], help="VAE and IDVAE on real digits")
    _add_seeds(one, of="model")
    _add_epochs(one)
    one.add_argument(
        "--samples",
        type=whole_number(2),
        default=2000,
        help="importance samples an image (%(default)s)",
    )
    one.add_argument(
        "--images", type=whole_number(2), help="held-out images to judge by (default: all)"
    )
    seeds = names.add_parser(
        "consistency", parents=[common], help="whether seeds of VAE and IDVAE find the same latents"
    )
    _add_seeds(seeds, of="model", minimum=consistency.LEAST_SEEDS)
    _add_epochs(seeds)
    _add_quick(seeds, "two seeds of two epochs")
    floor = names.add_parser(
        "floors", parents=[common], help="what floors cost and keep, in noise units and in others"
    )
    floor.add_argument(
        "--data", type=Path, required=True, help="folder with the files of the data sets"
    )
    floor.add_argument(
        "--only",
        nargs="+",
        choices=floors.NAMES,
        default=floors.NAMES,
        metavar="SET",
        help=f"data sets to use, of {', '.join(floors.NAMES)} (all)",
    )
    _add_seeds(floor, of="model", default=3)
    _add_quick(floor, "a few rows and two epochs")
    arms = names.add_parser(
        "pinwheel", parents=[common], help="whether mixture VAEs know which arm a point is of"
    )
    _add_budget(arms, of="model", seconds=60)
    _add_contest(
        names.add_parser(
            "remedies",
            parents=[common],
            help="remedies for posterior collapse at equal processor time",
        ),
        of="remedy",
        seconds=30,
        samples=1000,
    )
    sentences = names.add_parser(
        "text",
        parents=[common],
        help="sequential VAEs on sentences of a known process, or Yelp's, at equal processor time",
    )
    _add_contest(sentences, of="model", seconds=60, samples=300)
    sentences.add_argument("--data", type=Path, help="folder with sentences of Yelp")
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
    parser = _parser()
    options = parser.parse_args()
    out = options.out / options.name
    make_folder(parser, out)
    with interruptible(f"the rows in {out} stay, and --resume goes on from them"):
        try:
            _run(options, out)
        except (EarlierRunError, FileNotFoundError) as error:
            parser.error(str(error))


def _run(options: Any, out: Path) -> None:
    if options.name == "digits":
        digits.run(
            out,
            num_seeds=options.seeds,
            num_epochs=options.epochs,
            num_samples=options.samples,
            num_images=options.images,
            resume=options.resume,
        )
        return
    if options.name == "consistency":
        consistency.run(
            out,
            num_seeds=options.seeds,
            num_epochs=options.epochs,
            quick=options.quick,
            resume=options.resume,
        )
        return
    if options.name == "pinwheel":
        pinwheel.run(
            out,
            num_seeds=options.seeds,
            seconds=options.seconds,
            quick=options.quick,
            resume=options.resume,
        )
        return
    if options.name == "floors":
        floors.run(
            out,
            options.data,
            data_sets=options.only,
            num_seeds=options.seeds,
            quick=options.quick,
            resume=options.resume,
        )
        return
    if options.name in ("remedies", "text"):
        run_contest = (
            remedies.run if options.name == "remedies" else partial(text.run, data=options.data)
        )
        run_contest(
            out,
            num_seeds=options.seeds,
            seconds=float(options.seconds),
            num_samples=options.samples,
            quick=options.quick,
            resume=options.resume,
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
        resume=options.resume,
    )


if __name__ == "__main__":
    main()
