# SPDX-License-Identifier: Apache-2.0
"""Images of 28 × 28 pixels: clothes, and characters of fifty alphabets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyro_idvae.datasets.digits import ImageSplit
from pyro_idvae.datasets.local import Folder, find
from pyro_idvae.datasets.sizes import check_seed


def fashion_mnist(folder: Folder) -> ImageSplit:
    """Load Fashion-MNIST: 60,000 and 10,000 images of clothes in ten classes.

    Args:
        folder: with ``fashion_mnist.npz``, whose arrays ``train_images``, ``train_labels``,
            ``test_images`` and ``test_labels`` are those of the published files.

    Returns:
        An :class:`ImageSplit`; images have shape ``(n, 784)``, ink from 0 to 1 as float32.

    Raises:
        FileNotFoundError: without the file.

    Reference:
        Xiao, Rasul and Vollgraf, *Fashion-MNIST*, arXiv 1708.07747.
    """
    return _read(folder, "fashion_mnist.npz", "labels")


def omniglot(folder: Folder) -> ImageSplit:
    """Load Omniglot: 24,345 and 8,070 characters, drawn by hand, of fifty alphabets.

    Args:
        folder: with ``omniglot_28.npz``, whose arrays ``train_images``, ``train_alphabet``,
            ``test_images`` and ``test_alphabet`` are uint8 images of 28 × 28 and class numbers.

    Returns:
        An :class:`ImageSplit`; images have shape ``(n, 784)``, ink from 0 to 1 as float32; labels
        are alphabets.

    Raises:
        FileNotFoundError: without the file.

    Reference:
        Lake, Salakhutdinov and Tenenbaum, *Human-level concept learning through probabilistic
        program induction*, Science 2015.
    """
    return _read(folder, "omniglot_28.npz", "alphabet")


def binarize(images: Tensor, *, seed: int) -> Tensor:
    """Return black-and-white images, each pixel white with the probability of its ink.

    Args:
        images: ink from 0 to 1.
        seed: of the draws.

    Raises:
        ValueError: for ink outside.

    Example:
        >>> import torch
        >>> from pyro_idvae.datasets import binarize
        >>> binarize(torch.tensor([[0.0, 1.0]]), seed=0)
        tensor([[0., 1.]])
    """
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images have ink outside [0, 1]: divide whole numbers by their largest")
    return torch.bernoulli(images, generator=torch.Generator().manual_seed(check_seed(seed)))


def _read(folder: Folder, name: str, labels: str) -> ImageSplit:
    path = find(folder, name, f"arrays train_images, train_{labels}, test_…")
    with np.load(path, allow_pickle=False) as file:
        return ImageSplit(
            _ink(file["train_images"]),
            _ink(file["test_images"]),
            torch.as_tensor(file[f"train_{labels}"].astype(np.int64)),
            torch.as_tensor(file[f"test_{labels}"].astype(np.int64)),
        )


def _ink(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    flat = images.reshape(len(images), -1)
    return torch.as_tensor(flat.astype(np.float32) / np.float32(255))
