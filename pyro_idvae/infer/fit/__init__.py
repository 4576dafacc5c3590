# SPDX-License-Identifier: Apache-2.0
"""Stochastic variational inference."""

from pyro_idvae.infer.fit.callbacks import Callback, Progress
from pyro_idvae.infer.fit.fit import fit
from pyro_idvae.infer.fit.plateau import StopOnPlateau
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.fit.saving import load, save
from pyro_idvae.infer.fit.word_dropout import WordDropout

__all__ = [
    "Callback",
    "FitResult",
    "Progress",
    "StopOnPlateau",
    "WordDropout",
    "fit",
    "load",
    "save",
]
