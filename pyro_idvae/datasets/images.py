# SPDX-License-Identifier: Apache-2.0
"""Images of 28 × 28 pixels: digits, clothes, and characters of fifty alphabets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_idvae.datasets.digits import ImageSplit
from pyro_idvae.datasets.idx import read_idx
from pyro_idvae.datasets.local import Folder, find
from pyro_idvae.datasets.published import fetch
from pyro_idvae.datasets.sizes import check_seed

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""Names of the published files, without ``.gz``."""
MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_SUMS = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FASHION_SUMS = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def mnist(folder: Folder | None = None) -> ImageSplit:
    """Load MNIST: 60,000 and 10,000 handwritten digits.

    Args:
        folder: with the four published files, ``train-images-idx3-ubyte`` and so on, with or
            without ``.gz``; or with ``mnist.npz``, with arrays ``train_images``, ``train_labels``,
            ``test_images`` and ``test_labels``. None downloads the files and keeps them.

    Returns:
        An :class:`ImageSplit`; images have shape ``(n, 784)``, ink from 0 to 1 as float32.

    Raises:
        FileNotFoundError: without the files, or a connection.
        ImportError: for a download without pooch (extra ``data``).
        ValueError: for files that are cut or of another format.

    Reference:
        LeCun, Bottou, Bengio and Haffner, *Gradient-based learning applied to document
        recognition*, Proceedings of the IEEE 1998.
    """
    return _published(folder, "mnist.npz", MNIST, MNIST_SUMS)


def fashion_mnist(folder: Folder | None = None) -> ImageSplit:
    """Load Fashion-MNIST: 60,000 and 10,000 images of clothes in ten classes.

    Args:
        folder: with the four published files, or with ``fashion_mnist.npz``; as for :func:`mnist`.
            None downloads the files and keeps them.

    Returns:
        An :class:`ImageSplit`; images have shape ``(n, 784)``, ink from 0 to 1 as float32.

    Raises:
        FileNotFoundError: without the files, or a connection.
        ImportError: for a download without pooch (extra ``data``).
        ValueError: for files that are cut or of another format.

    Reference:
        Xiao, Rasul and Vollgraf, *Fashion-MNIST*, arXiv 1708.07747.
    """
    return _published(folder, "fashion_mnist.npz", FASHION, FASHION_SUMS)


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
    return _in_one_file(folder, "omniglot_28.npz", "alphabet")


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


def _published(folder: Folder | None, name: str, address: str, sums: tuple[str, ...]) -> ImageSplit:
    """Read four idx files, or one of all arrays; download them if there is no folder."""
    if folder is None:
        known = {f"{file}.gz": own for file, own in zip(FILES.values(), sums, strict=True)}
        paths = fetch(address, known)
        return _split({part: read_idx(paths[f"{file}.gz"]) for part, file in FILES.items()})
    if Path(folder, name).is_file():
        return _in_one_file(folder, name, "labels")
    return _split({part: read_idx(_idx_file(folder, part, name)) for part in FILES})


def _idx_file(folder: Folder, part: str, instead: str) -> Path:
    packed = Path(folder, f"{FILES[part]}.gz")
    what = f"{part.replace('_', ' ')}, .gz or not; {instead!r} would do instead of all four"
    return packed if packed.is_file() else find(folder, FILES[part], what)


def _in_one_file(folder: Folder, name: str, labels: str) -> ImageSplit:
    path = find(folder, name, f"arrays train_images, train_{labels}, test_…")
    with np.load(path, allow_pickle=False) as file:
        arrays = {f"{part}_images": file[f"{part}_images"] for part in ("train", "test")}
        return _split(
            {**arrays, **{f"{part}_labels": file[f"{part}_{labels}"] for part in ("train", "test")}}
        )


def _split(arrays: Mapping[str, Array]) -> ImageSplit:
    return ImageSplit(
        _ink(arrays["train_images"]),
        _ink(arrays["test_images"]),
        torch.as_tensor(arrays["train_labels"].astype(np.int64)),
        torch.as_tensor(arrays["test_labels"].astype(np.int64)),
    )


def _ink(images: Array) -> Tensor:
    flat = images.reshape(len(images), -1)
    return torch.as_tensor(flat.astype(np.float32) / np.float32(255))
