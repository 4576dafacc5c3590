# SPDX-License-Identifier: Apache-2.0
"""Data to try things on; a leaf that imports nothing of the package."""

from pyro_idvae.datasets.digits import MAX_INK, ImageSplit, digits
from pyro_idvae.datasets.simulated import (
    MIXTURE_REGIMES,
    MixtureData,
    PCAData,
    mixture_data,
    pca_data,
)

__all__ = [
    "MAX_INK",
    "MIXTURE_REGIMES",
    "ImageSplit",
    "MixtureData",
    "PCAData",
    "digits",
    "mixture_data",
    "pca_data",
]
