# SPDX-License-Identifier: Apache-2.0
"""Data to try things on; a leaf that imports nothing of the package."""

from pyro_idvae.datasets.cells import CellSplit, single_cells
from pyro_idvae.datasets.digits import MAX_INK, ImageSplit, digits
from pyro_idvae.datasets.images import binarize, fashion_mnist, mnist, omniglot
from pyro_idvae.datasets.pinwheel import PinwheelData, pinwheel
from pyro_idvae.datasets.simulated import (
    MIXTURE_REGIMES,
    MixtureData,
    PCAData,
    mixture_data,
    pca_data,
)
from pyro_idvae.datasets.synthetic_text import TextData, TextProcess, synthetic_text
from pyro_idvae.datasets.text import CountSplit, yelp_counts
from pyro_idvae.datasets.text_lines import (
    LengthBuckets,
    Sentences,
    sentence_batches,
    text_lines,
)

__all__ = [
    "MAX_INK",
    "MIXTURE_REGIMES",
    "CellSplit",
    "CountSplit",
    "ImageSplit",
    "LengthBuckets",
    "MixtureData",
    "PCAData",
    "PinwheelData",
    "Sentences",
    "TextData",
    "TextProcess",
    "binarize",
    "digits",
    "fashion_mnist",
    "mixture_data",
    "mnist",
    "omniglot",
    "pca_data",
    "pinwheel",
    "sentence_batches",
    "single_cells",
    "synthetic_text",
    "text_lines",
    "yelp_counts",
]
