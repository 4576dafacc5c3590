# SPDX-License-Identifier: Apache-2.0
"""Sequences of tokens whose law a likelihood knows, as a Pyro distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae import _upstream

Density = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Generator = Callable[[Tensor, Tensor | None, int], Tensor]


class TokenSequence(TorchDistribution):
    """Tokens given z, one by one; integer events of shape ``(T,)``.

    Made by ``condition`` of a sequence likelihood.

    Args:
        law: log p of each sequence, a function of tokens, z and lengths; and what draws tokens, one
            of z, lengths and T.
        z: latents, of shape ``batch + (K,)``.
        lengths: of the sequences, broadcast with the batch; None where an end mark tells.
        num_tokens: T, padding included.
        vocabulary_size: V.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = False

    def __init__(
        self,
        law: tuple[Density, Generator],
        z: Tensor,
        lengths: Tensor | None,
        num_tokens: int,
        vocabulary_size: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self._log_prob, self._generate = law
        self.z, self.lengths = z, lengths
        self.num_tokens, self.vocabulary_size = num_tokens, vocabulary_size
        batch = z.shape[:-1]
        if lengths is not None:
            batch = torch.broadcast_shapes(batch, lengths.shape)
        super().__init__(batch, torch.Size([num_tokens]), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Whole numbers from 0 to V − 1."""
        return constraints.independent(constraints.integer_interval(0, self.vocabulary_size - 1), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TokenSequence:
        """Return the same law in a larger batch."""
        new = _upstream.checked_instance(self, TokenSequence, _instance)
        shape = torch.Size(batch_shape)
        TokenSequence.__init__(
            new,
            (self._log_prob, self._generate),
            self.z.expand(shape + self.z.shape[-1:]),
            None if self.lengths is None else self.lengths.expand(shape),
            self.num_tokens,
            self.vocabulary_size,
            validate_args=False,
        )
        _upstream.set_validation(new, _upstream.validates(self))
        return new  # type: ignore[no-any-return]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p of sequences, of their batch shape."""
        if _upstream.validates(self):
            self._validate_sample(value)
        return self._log_prob(value.long(), self.z, self.lengths)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw sequences token by token; after their end they are padded."""
        shape = torch.Size(sample_shape) + self.batch_shape
        lengths = None if self.lengths is None else self.lengths.expand(shape)
        with torch.no_grad():
            return self._generate(
                self.z.expand(shape + self.z.shape[-1:]), lengths, self.num_tokens
            )
