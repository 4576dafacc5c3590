# SPDX-License-Identifier: Apache-2.0
"""Remedies for posterior collapse on real digits, at equal processor time, beside IDVAE."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_idvae.datasets import MAX_INK, digits
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.experiments.contest import Contest, Remedy, named
from pyro_idvae.experiments.images import (
    ENCODER_DIMS,
    LATENT_DIM,
    NUM_PIXELS,
    make_at_base,
    make_idvae,
    make_vae,
)
from pyro_idvae.models import VAE, Encoder, SkipMLP

SKIP_WIDTH = 66  # gives the decoder as many parameters as the plain one, within 2 %


def make_skip(seed: int) -> VAE:
    """Return an ordinary VAE whose decoder reads z in every layer."""
    torch.manual_seed(seed)
    network = SkipMLP([LATENT_DIM, SKIP_WIDTH, SKIP_WIDTH, NUM_PIXELS])
    likelihood = NeuralLikelihood(make_family("binomial", total_count=MAX_INK), network)
    return VAE(likelihood, Encoder(NUM_PIXELS, LATENT_DIM, ENCODER_DIMS))


def remedies() -> dict[str, Remedy]:
    """Return what is compared, by name: all on one VAE but the last three."""
    objectives = {
        "none": TraceMeanField_ELBO,
        "annealed": named("annealed", elbo=TraceMeanField_ELBO()),
        "annealed, cyclical": named("annealed", schedule="cyclical", elbo=TraceMeanField_ELBO()),
        "batch norm": named("batch_norm"),
        "beta 0.5": named("beta", beta=0.5, elbo=TraceMeanField_ELBO()),
        "delta 0.1": named("delta", nats=0.1),
        "free bits": named("free_bits"),
        "importance weighted": named(
            "importance_weighted", vectorize_particles=True, max_plate_nesting=1
        ),
        "inverse Lipschitz": named("inverse_lipschitz"),
        "lagging": named("lagging"),
        "latent reconstruction": named("latent_reconstruction"),
        "MMD": named("mmd"),
        "semi-amortised": named("semi_amortised"),
        "target rate": named("target_rate", nats=25.0, method="lagrangian"),
    }
    return {
        **{name: Remedy(make_vae, objective) for name, objective in objectives.items()},
        "skip decoder": Remedy(make_skip, TraceMeanField_ELBO),
        "IDVAE, L ≥ 1": Remedy(make_idvae, TraceMeanField_ELBO),
        "IDVAE, 0.1 nat in noise units": Remedy(
            partial(make_at_base, digits().train), TraceMeanField_ELBO
        ),
    }


def run(
    out: Path,
    *,
    num_seeds: int = 5,
    seconds: float = 30.0,
    num_samples: int = 1000,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Tune, train and judge each remedy.

    Writes ``tuning.csv``, ``training.csv``, ``weights/``, ``remedies.csv`` and ``remedies.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a remedy.
        seconds: of processor time a run, those that choose the learning rate included.
        num_samples: draws of the guide an image.
        quick: one seed of a second, untuned, judged by a few images, to see that all goes through.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a remedy and seed: the columns of :attr:`Evaluation.row`, and what was trained how.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    contest = Contest(
        out,
        "remedies",
        "image",
        num_seeds=num_seeds,
        seconds=seconds,
        num_samples=num_samples,
        quick=quick,
    )
    contest.begin(resume=resume)
    data = digits()
    return contest.run(remedies(), data.train, data.test)
