# SPDX-License-Identifier: Apache-2.0
"""Data to try things on; a leaf that imports nothing of the package."""

from pyro_idvae.datasets.digits import MAX_INK, ImageSplit, digits

__all__ = ["MAX_INK", "ImageSplit", "digits"]
