# SPDX-License-Identifier: Apache-2.0
"""Data sets on which floors are compared, and the models of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pyro_idvae.datasets import (
    MAX_INK,
    CellSplit,
    CountSplit,
    ImageSplit,
    binarize,
    digits,
    fashion_mnist,
    omniglot,
    single_cells,
    yelp_counts,
)
from pyro_idvae.distributions import NeuralLikelihood, make_family, wanted_rate
from pyro_idvae.experiments.training import Make
from pyro_idvae.models import IDVAE, VAE, Encoder, mlp

ORDINARY = "ordinary decoder"
Split = CellSplit | CountSplit | ImageSplit


@dataclass(frozen=True)
class Case:
    """A data set, and the sizes of models for it.

    Attributes:
        name: of the data set.
        load: returns data with rows to train on and held-out ones, from a folder.
        family: of the observations.
        latent_dim: K.
        width: of the ridges of an injective decoder, in both of its maps.
        layers: of the ordinary decoder.
        encoder: of both.
        rates: learning rates.
        epochs: after which a model is judged.
        nats: wanted of each latent.
        num_rows: held-out rows to judge by.
        ink: whether rows are ink, and an observation a draw of black and white pixels, another one
            in each epoch. There are data for it, so that no epoch is picked.
        total_count: of a Binomial.
        batch_size: rows a step.
    """

    name: str
    load: Callable[[Path], Split]
    family: str
    latent_dim: int
    width: int
    layers: tuple[int, ...]
    encoder: tuple[int, ...]
    rates: tuple[float, ...]
    epochs: tuple[int, ...]
    nats: tuple[float, ...]
    num_rows: int = 200
    ink: bool = False
    total_count: int | None = None
    batch_size: int = 128

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the family."""
        return {} if self.total_count is None else {"total_count": self.total_count}

    def judged_by(self, test: Tensor) -> Tensor:
        """Return the observations to judge by."""
        rows = test[: self.num_rows]
        return binarize(rows, seed=0) if self.ink else rows

    def batches(self, train: Tensor) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return loaders of nine tenths of the rows, and of the others to validate by."""
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        held, rest = train[order[: len(train) // 10]], train[order[len(train) // 10 :]]
        if self.ink:
            held = binarize(held, seed=1)
        collate = partial(_stacked, ink=self.ink)
        return (
            DataLoader(
                TensorDataset(rest), batch_size=self.batch_size, shuffle=True, collate_fn=collate
            ),
            DataLoader(TensorDataset(held), batch_size=self.batch_size),
        )


def _stacked(rows: list[tuple[Tensor]], *, ink: bool) -> tuple[Tensor]:
    x = torch.stack([row for (row,) in rows])
    return (torch.bernoulli(x) if ink else x,)


IMAGES: dict[str, Any] = {
    "family": "bernoulli",
    "latent_dim": 32,
    "width": 512,
    "layers": (512, 512),
    "encoder": (512, 512),
    "rates": (1e-3, 3e-3),
    "epochs": (15, 25),
    "nats": (0.1,),
    "ink": True,
}
COUNTS: dict[str, Any] = {
    "family": "multinomial",
    "latent_dim": 8,
    "width": 128,
    "layers": (128,),
    "encoder": (128,),
    "nats": (0.1, 0.3),
}
CASES = (
    Case(
        "digits",
        lambda _: digits(),
        family="binomial",
        total_count=MAX_INK,
        latent_dim=16,
        width=128,
        layers=(76, 76),
        encoder=(512, 512),
        rates=(1e-3, 2e-3, 4e-3),
        epochs=(300,),
        nats=(0.1, 0.3),
        num_rows=360,
    ),
    Case("yelp", yelp_counts, **COUNTS, rates=(1e-3, 3e-3), epochs=(40,), num_rows=1000),
    Case(
        "cells",
        single_cells,
        **COUNTS,
        rates=(1e-3, 3e-3),
        epochs=(200,),
        num_rows=100,
        batch_size=100,
    ),
    Case("omniglot", omniglot, **IMAGES),
    Case("fashion_mnist", fashion_mnist, **IMAGES),
)


def models(case: Case, train: Tensor) -> dict[str, Make]:
    """Return the models of a data set by name, each a function of a seed."""
    base = train if not case.ink else binarize(train, seed=2)
    found: dict[str, Make] = {ORDINARY: partial(_ordinary, case, train.shape[1])}
    for nats in case.nats:
        part = matched_floor(case, base, nats) ** (1 / 3)
        in_eta = {"strong_convexity": part, "min_singular_value": part}
        in_units = {"base": base, "wanted_nats": nats}
        for words, floor in (("η", in_eta), ("noise units", in_units)):
            found[f"floor in {words}, {nats:g} nats"] = partial(
                _injective, case, train.shape[1], floor
            )
    return found


def _ordinary(case: Case, data_dim: int, seed: int) -> VAE:
    torch.manual_seed(seed)
    family = make_family(case.family, **case.options)
    network = mlp([case.latent_dim, *case.layers, family.parameter_dim(data_dim)])
    return VAE(NeuralLikelihood(family, network), Encoder(data_dim, case.latent_dim, case.encoder))


def _injective(case: Case, data_dim: int, floor: dict[str, Any], seed: int) -> VAE:
    torch.manual_seed(seed)
    return IDVAE(
        data_dim,
        case.latent_dim,
        case.family,
        hidden_dims=[case.width],
        encoder_hidden_dims=case.encoder,
        **floor,
        **case.options,
    )


def matched_floor(case: Case, base: Tensor, nats: float) -> float:
    """Return the floor in η that asks for the same nats of a direction drawn at random.

    Floors in noise units are L; in η they are L over the root of the mean information at the base
    rates.
    """
    family = make_family(case.family, **case.options)
    floor = wanted_rate(family, base, nats=nats, latent_dim=case.latent_dim)
    mean = base.mean(0)
    if case.family == "multinomial":
        p = mean / mean.sum()
        information = float(mean.sum() * (1 - p.square().sum()) / (len(p) - 1))
    else:
        eta = family.eta_of_mean(mean, torch.full_like(mean, 0.5 / len(base)))
        information = float(family.fisher_information(eta).mean())
    return floor / math.sqrt(information)
