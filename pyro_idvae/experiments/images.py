# SPDX-License-Identifier: Apache-2.0
"""An ordinary VAE and an identifiable one of the same size, trained and judged the same way."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_idvae._files import replacing
from pyro_idvae.datasets import MAX_INK
from pyro_idvae.diagnostics import active_units, importance_log_likelihood, kl_to_prior
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.infer import FitResult, fit
from pyro_idvae.models import IDVAE, VAE, Encoder, mlp

LATENT_DIM = 16
NUM_PIXELS = 64
ENCODER_DIMS = (512, 512)
INJECTIVE_WIDTH = 128
MLP_WIDTH = 76  # gives the decoder as many parameters as the injective one, within 2 %
BATCH_SIZE = 128


@dataclass(frozen=True)
class Row:
    """One trained model as a line of a table; nats where there is no unit."""

    model: str
    lipschitz: float | None
    parameters: int
    seconds: float
    epochs: int
    log_likelihood: float
    log_likelihood_se: float
    unreliable: float
    kl: float
    active_units: int
    min_nats: float

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Row:
        """Return a row as it was read from a file."""
        bound = columns["lipschitz"]
        unknown = bound is None or bool(np.isnan(bound))
        return cls(**{**columns, "lipschitz": None if unknown else bound})


def write_rows(rows: list[Row], path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def make_vae(seed: int) -> VAE:
    """Return the ordinary VAE: a ReLU network as decoder of Binomial(16) pixels."""
    torch.manual_seed(seed)
    network = mlp([LATENT_DIM, MLP_WIDTH, MLP_WIDTH, NUM_PIXELS])
    likelihood = NeuralLikelihood(make_family("binomial", total_count=MAX_INK), network)
    return VAE(likelihood, Encoder(NUM_PIXELS, LATENT_DIM, ENCODER_DIMS))


def make_idvae(seed: int, lipschitz: float = 1.0) -> IDVAE:
    """Return the identifiable VAE whose decoder is sure to have L ≥ ``lipschitz``."""
    torch.manual_seed(seed)
    floor = lipschitz ** (1 / 3)  # shared by g1, β and g2
    return IDVAE(
        NUM_PIXELS,
        LATENT_DIM,
        "binomial",
        total_count=MAX_INK,
        hidden_dims=[INJECTIVE_WIDTH],
        encoder_hidden_dims=ENCODER_DIMS,
        strong_convexity=floor,
        min_singular_value=floor,
    )


def train(
    vae: VAE, images: Tensor, *, learning_rate: float, num_epochs: int, seed: int, progress: bool
) -> FitResult:
    """Fit with a tenth of the images for validation; keeps the best validation epoch.

    Raises:
        KeyboardInterrupt: if Ctrl-C ended the fit: what it had found is no result to compare.
    """
    result = fit(
        vae.model,
        vae.guide,
        images,
        elbo=TraceMeanField_ELBO(),
        optimizer=partial(torch.optim.Adam, lr=learning_rate, fused=True),
        num_epochs=num_epochs,
        batch_size=BATCH_SIZE,
        validation=0.1,
        seed=seed,
        progress=progress,
    )
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def evaluate(
    name: str, vae: VAE, result: FitResult, images: Tensor, *, num_samples: int, seed: int
) -> Row:
    """Judge a fitted VAE on held-out images."""
    torch.manual_seed(seed)
    estimate = importance_log_likelihood(vae.model, vae.guide, images, num_samples=num_samples)
    kl = kl_to_prior(vae.model, vae.guide, images).mean(0)
    likelihood = vae.likelihood
    return Row(
        model=name,
        lipschitz=likelihood.lipschitz_bounds()[0] if likelihood.identifiable else None,
        parameters=sum(p.numel() for p in likelihood.parameters()),
        seconds=result.wall_time,
        epochs=result.best_epoch + 1,
        log_likelihood=estimate.mean,
        log_likelihood_se=estimate.standard_error,
        # What is unknown is not reliable either.
        unreliable=float((~(estimate.pareto_k <= 0.7)).mean()),
        kl=float(kl.sum()),
        active_units=int(active_units(vae.model, vae.guide, images).sum()),
        min_nats=float(kl.min()),
    )
