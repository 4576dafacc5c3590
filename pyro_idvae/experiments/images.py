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
from pyro_idvae.diagnostics import evaluate
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.experiments.endings import finished
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
    """One trained model as a line of a table; nats where there is no unit.

    ``evidence`` is the mean of log p(x) by annealing, with its Monte-Carlo error and its standard
    error over the images; ``unreliable`` the share of images in which the importance-weighted bound
    is not reliable; ``least_nats`` the KL to the prior of the poorest latent dimension.
    """

    model: str
    lipschitz: float | None
    parameters: int
    seconds: float
    epochs: int
    evidence: float
    evidence_mcse: float
    evidence_se: float
    importance_bound: float
    unreliable: float
    elbo: float
    kl: float
    posterior_kl: float
    inference_gap: float
    active_units: int
    least_nats: float

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Row:
        """Return a row as it was read from a file."""
        own = {field.name: columns[field.name] for field in fields(cls)}
        bound = own["lipschitz"]
        unknown = bound is None or bool(np.isnan(bound))
        return cls(**{**own, "lipschitz": None if unknown else bound})


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
    floor = lipschitz ** (1 / 3)  # shared by g1, β and g2
    return _identifiable(seed, strong_convexity=floor, min_singular_value=floor)


def make_at_base(base: Tensor, seed: int) -> IDVAE:
    """Return the identifiable VAE in the noise units of ``base``, at its default floor."""
    return _identifiable(seed, base=base)


def _identifiable(seed: int, **options: Any) -> IDVAE:
    torch.manual_seed(seed)
    return IDVAE(
        NUM_PIXELS,
        LATENT_DIM,
        "binomial",
        total_count=MAX_INK,
        hidden_dims=[INJECTIVE_WIDTH],
        encoder_hidden_dims=ENCODER_DIMS,
        **options,
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
    return finished(result)


def judge(
    name: str,
    vae: VAE,
    images: Tensor,
    *,
    seconds: float,
    epochs: int,
    num_samples: int,
    seed: int,
    evidence_options: Mapping[str, Any] | None = None,
) -> Row:
    """Judge a trained VAE on held-out images.

    Args:
        name: of the model.
        vae: the model.
        images: held-out images.
        seconds: of its training.
        epochs: of its training, up to the weights it has.
        num_samples: draws of the guide an image.
        seed: of all random numbers.
        evidence_options: further arguments of :func:`log_evidence`.
    """
    found = evaluate(
        vae.model,
        vae.guide,
        images,
        num_samples=num_samples,
        evidence_options=evidence_options,
        leave_out=("certificate", "information"),
        seed=seed,
    )
    likelihood = vae.likelihood
    return Row(
        model=name,
        lipschitz=likelihood.lipschitz_bounds()[0] if likelihood.identifiable else None,
        parameters=sum(p.numel() for p in likelihood.parameters()),
        seconds=seconds,
        epochs=epochs,
        evidence=found.evidence.mean,
        evidence_mcse=found.evidence.mcse,
        evidence_se=found.evidence.se,
        importance_bound=found.importance_bound.mean,
        unreliable=found.unreliable,
        elbo=found.elbo.mean,
        kl=found.kl.mean,
        posterior_kl=found.posterior_kl.mean,
        inference_gap=found.inference_gap.mean,
        active_units=int(found.active_units),
        least_nats=found.least_nats.mean,
    )
