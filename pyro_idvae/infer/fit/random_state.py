# SPDX-License-Identifier: Apache-2.0
"""The states of all global random number generators."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_idvae.errors import CheckpointError


def to_text(state: Tensor) -> str:
    """Return the state of one of torch's generators as text."""
    return state.numpy().tobytes().hex()


def from_text(text: str) -> Tensor:
    """Return the state that :func:`to_text` made text of."""
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


@dataclass(frozen=True)
class OtherStates:
    """The states of numpy's and Python's global generators, which Pyro seeds with torch's."""

    numpy: tuple[Any, ...]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> OtherStates:
        """Return what they are now."""
        return cls(tuple(np.random.get_state()), random.getstate())  # noqa: NPY002

    def restore(self) -> None:
        """Set them to this."""
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)


@dataclass(frozen=True)
class RandomState:
    """The states of torch's generators and of the others.

    Attributes:
        cpu: of torch on the CPU.
        cuda: by number of the device.
        others: of numpy and Python.
    """

    cpu: Tensor
    cuda: Mapping[int, Tensor]
    others: OtherStates

    @classmethod
    def now(cls, devices: list[int]) -> RandomState:
        """Return what they are now.

        Args:
            devices: numbers of the CUDA devices in use.
        """
        cuda = {device: torch.cuda.get_rng_state(device) for device in devices}
        return cls(torch.get_rng_state(), cuda, OtherStates.now())

    def restore(self) -> None:
        """Set them to this.

        Raises:
            CheckpointError: if one is of a CUDA device that is not there.
        """
        count = torch.cuda.device_count() if self.cuda else 0
        missing = [device for device in self.cuda if device >= count]
        if missing:
            raise CheckpointError(
                f"the run was on the CUDA devices {missing}, which are not there: random numbers "
                "of other devices would be others"
            )
        for device, state in self.cuda.items():
            torch.cuda.set_rng_state(state, device)
        torch.set_rng_state(self.cpu)
        self.others.restore()

    def as_json(self) -> dict[str, Any]:
        """Return this as what ``json`` can write."""
        name, words, *rest = self.others.numpy
        version, keys, gauss = self.others.python
        return {
            "torch": to_text(self.cpu),
            "cuda": {str(device): to_text(state) for device, state in self.cuda.items()},
            "numpy": [name, np.asarray(words).tolist(), *rest],
            "random": [version, list(keys), gauss],
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> RandomState:
        """Return what :meth:`as_json` wrote."""
        name, words, *rest = said["numpy"]
        version, keys, gauss = said["random"]
        others = OtherStates(
            (name, np.array(words, dtype=np.uint32), *rest), (version, tuple(keys), gauss)
        )
        cuda = {int(device): from_text(state) for device, state in said["cuda"].items()}
        return cls(from_text(said["torch"]), cuda, others)
