# SPDX-License-Identifier: Apache-2.0
"""Scikit-learn's bundled digits: real images, no download."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.datasets.split import split_rows

MAX_INK = 16
"""Pixels are counts of ink from 0 to this: Binomial data."""


class ImageSplit(NamedTuple):
    """Training and held-out images, one row each, with their labels."""

    train: Tensor
    test: Tensor
    train_labels: Tensor
    test_labels: Tensor


def digits(*, num_test: int = 360, seed: int = 0) -> ImageSplit:
    """Load 1797 handwritten digits of 8 × 8 pixels, whole numbers from 0 to 16 as float32.

    Args:
        num_test: images held out.
        seed: seed of the split.

    Returns:
        An :class:`ImageSplit`; images have shape ``(n, 64)``.

    Raises:
        ImportError: without scikit-learn (extra ``examples``).
        ValueError: if ``num_test`` leaves no images on one side.

    Example:
        >>> from pyro_idvae.datasets import digits
        >>> digits().train.shape
        torch.Size([1437, 64])
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn: pip install 'pyro-idvae[examples]'"
        ) from error
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    rest, held = split_rows(len(x), num_test, seed)
    return ImageSplit(x[rest], x[held], y[rest], y[held])
