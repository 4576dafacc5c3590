# SPDX-License-Identifier: Apache-2.0
"""Stochastic variational inference."""

from pyro_idvae.infer.fit.checkpoint import load, save
from pyro_idvae.infer.fit.loop import fit
from pyro_idvae.infer.fit.result import FitResult

__all__ = ["FitResult", "fit", "load", "save"]
