# SPDX-License-Identifier: Apache-2.0
"""Random numbers of a part of the work, whatever is drawn for other parts in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def drawn_seed() -> int:
    """Return a seed from torch's generator."""
    return int(torch.randint(2**62, ()))


def generator_states() -> dict[str, Tensor]:
    """Return the states of torch's generators: of the processor, and of the GPU in use."""
    states = {"random": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["random_cuda"] = torch.cuda.get_rng_state()
    return states


def set_generator_states(states: Mapping[str, Tensor]) -> None:
    """Go back to what :func:`generator_states` returned, as far as there are such generators."""
    torch.set_rng_state(states["random"])
    if "random_cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["random_cuda"])


def seed_of(*numbers: int) -> int:
    """Return a seed of its own for each list of numbers."""
    high, low = np.random.SeedSequence(numbers).generate_state(2, np.uint32).tolist()
    return int(high << 31 ^ low)


class Stream:
    """torch's generators for one part of the work, as it left them.

    Programs and guides draw from torch's own generators. So these are swapped, rather than others
    handed on.

    Args:
        seed: of the whole work.
        part: number of the part.
        device: where it draws, besides the processor.
        stage: 0, or the number of a later pass over all parts.

    Example:
        >>> import torch
        >>> from pyro_idvae.infer.rowwise.stream import Stream
        >>> streams = [Stream(0, part, torch.device("cpu")) for part in (0, 1, 0)]
        >>> drawn = []
        >>> for stream in streams:
        ...     with stream.drawing():
        ...         drawn.append(torch.rand(()))
        >>> bool(drawn[0] == drawn[2]), bool(drawn[0] == drawn[1])
        (True, False)
    """

    def __init__(self, seed: int, part: int, device: torch.device, stage: int = 0) -> None:
        self.seed, self.part, self.device = seed, part, device
        own = seed_of(seed, part, stage) if stage else seed_of(seed, part)
        self.generators = [torch.default_generator]
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self.generators.append(torch.cuda.default_generators[index])
        fresh = [torch.Generator(g.device).manual_seed(own) for g in self.generators]
        self.states: list[Tensor] = [generator.get_state() for generator in fresh]

    def at_stage(self, stage: int) -> Stream:
        """Return the stream of a later pass over this part, whatever was drawn before."""
        return Stream(self.seed, self.part, self.device, stage)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw from this stream; other streams and torch's own state are left as they are."""
        outer = [generator.get_state() for generator in self.generators]
        for generator, state in zip(self.generators, self.states, strict=True):
            generator.set_state(state)
        try:
            yield
        finally:
            self.states = [generator.get_state() for generator in self.generators]
            for generator, state in zip(self.generators, outer, strict=True):
                generator.set_state(state)
