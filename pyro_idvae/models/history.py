# SPDX-License-Identifier: Apache-2.0
"""What a token's past says: networks that see the tokens before each one, and no others."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pyro_idvae._abstract import AbstractOrFinal, must_write
from pyro_idvae._checks import check_count, check_real
from pyro_idvae.distributions.tokens import inputs_of
from pyro_idvae.errors import ArgumentError

KINDS = ("lstm", "gru", "transformer", "none")


class History(AbstractOrFinal, nn.Module):
    """h_l = h(x_1, …, x_{l−1}): a context for each token, of what stands before it.

    Abstract: subclasses write :meth:`of_inputs`, which must be causal. While it trains, words are
    left out of the inputs with the probability ``dropout``, so that the latent is needed; which
    ones, torch's generator says.

    Args:
        vocabulary_size: V.
        context_dim: width of h.
        embedding_dim: of the tokens; None if they are not looked at.
        dropout: probability that an input is replaced by the mark of a word left out.

    Raises:
        TypeError: for an abstract class, or a subclass that overrides what is final.
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_dim: int,
        *,
        embedding_dim: int | None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocabulary_size = check_count("vocabulary_size", vocabulary_size, minimum=2)
        self.context_dim = check_count("context_dim", context_dim)
        self.dropout = check_real("dropout", dropout, at_least=0.0, below=1.0)
        self.embedding: nn.Embedding | None = None
        if embedding_dim is not None:
            # Two more: the mark of the beginning, and that of a word left out.
            width = check_count("embedding_dim", embedding_dim)
            self.embedding = nn.Embedding(vocabulary_size + 2, width)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)

    @must_write
    def of_inputs(self, embedded: Tensor) -> Tensor:
        """Return contexts of inputs, of shape ``(rows, T, context_dim)``.

        Args:
            embedded: inputs of shape ``(rows, T, embedding_dim)``; context l may depend on the
                first l of them.
        """
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the context of each token, of shape ``batch + (T, context_dim)``.

        Args:
            tokens: whole numbers from 0 to V − 1, of shape ``batch + (T,)``.
        """
        if self.embedding is None:
            embedded = next(self.parameters()).new_zeros(*tokens.shape, 1)
        else:
            dropout = self.dropout if self.training else 0.0
            embedded = self.embedding(inputs_of(tokens, self.vocabulary_size, dropout))
        flat = embedded.reshape(-1, *embedded.shape[-2:])
        found = self.of_inputs(flat)
        return found.reshape(*tokens.shape, self.context_dim)


class RecurrentHistory(History):
    """The state of an LSTM or a GRU.

    Args:
        vocabulary_size: V.
        context_dim: width of the state.
        kind: ``"lstm"`` or ``"gru"``.
        num_layers: of the network.
        embedding_dim: of the tokens; ``context_dim`` by default.
        dropout: of words.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import RecurrentHistory
        >>> RecurrentHistory(9, 16)(torch.zeros(4, 7, dtype=torch.long)).shape
        torch.Size([4, 7, 16])
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_dim: int,
        kind: str = "lstm",
        *,
        num_layers: int = 1,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        width = context_dim if embedding_dim is None else embedding_dim
        super().__init__(vocabulary_size, context_dim, embedding_dim=width, dropout=dropout)
        if kind not in KINDS[:2]:
            raise ArgumentError(f"kind={kind!r}: expected 'lstm' or 'gru'")
        network: Any = nn.LSTM if kind == "lstm" else nn.GRU
        layers = check_count("num_layers", num_layers)
        self.network = network(width, context_dim, layers, batch_first=True)

    def of_inputs(self, embedded: Tensor) -> Tensor:
        """Return the states."""
        found: Tensor = self.network(embedded)[0]
        return found


class TransformerHistory(History):
    """A causal Transformer with sinusoidal positions.

    Args:
        vocabulary_size: V.
        context_dim: width of its layers.
        num_layers: of the network.
        num_heads: of each attention; must divide ``context_dim``.
        dropout: of words.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import TransformerHistory
        >>> TransformerHistory(9, 16)(torch.zeros(4, 7, dtype=torch.long)).shape
        torch.Size([4, 7, 16])
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_dim: int,
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(vocabulary_size, context_dim, embedding_dim=context_dim, dropout=dropout)
        if context_dim % check_count("num_heads", num_heads):
            raise ArgumentError(
                f"num_heads={num_heads} does not divide context_dim={context_dim}: take one that "
                "does"
            )
        layer = nn.TransformerEncoderLayer(
            context_dim,
            num_heads,
            dim_feedforward=2 * context_dim,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )
        layers = check_count("num_layers", num_layers)
        self.network = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def of_inputs(self, embedded: Tensor) -> Tensor:
        """Return the last layer."""
        length, width = embedded.shape[-2:]
        mask = nn.Transformer.generate_square_subsequent_mask(
            length, device=embedded.device, dtype=embedded.dtype
        )
        placed = embedded * math.sqrt(width) + positions(length, width).to(embedded)
        found: Tensor = self.network(placed, mask=mask, is_causal=True)
        return found


class NoHistory(History):
    """No past: each token depends on z and on its place alone.

    Args:
        vocabulary_size: V.
        context_dim: width of the places.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import NoHistory
        >>> NoHistory(9, 16)(torch.zeros(4, 7, dtype=torch.long)).shape
        torch.Size([4, 7, 16])
    """

    def __init__(self, vocabulary_size: int, context_dim: int) -> None:
        super().__init__(vocabulary_size, context_dim, embedding_dim=None)
        self.network = nn.Linear(context_dim, context_dim)

    def of_inputs(self, embedded: Tensor) -> Tensor:
        """Return what the places say."""
        length = embedded.shape[-2]
        found: Tensor = self.network(positions(length, self.context_dim).to(embedded))
        return found.expand(len(embedded), -1, -1)


def positions(length: int, width: int) -> Tensor:
    """Return sines and cosines of the places, of shape ``(length, width)``."""
    place = torch.arange(length).unsqueeze(-1)
    number = torch.arange(width)
    rate = torch.exp(-math.log(1e4) * (number // 2 * 2) / width)
    return torch.where(number % 2 == 0, (place * rate).sin(), (place * rate).cos())


def make_history(
    kind: str, vocabulary_size: int, context_dim: int, *, dropout: float = 0.0
) -> History:
    """Make a history from its name.

    Args:
        kind: ``"lstm"``, ``"gru"``, ``"transformer"`` or ``"none"``.
        vocabulary_size: V.
        context_dim: width of h.
        dropout: of words.

    Raises:
        ArgumentError: for another name.
    """
    if kind in KINDS[:2]:
        return RecurrentHistory(vocabulary_size, context_dim, kind, dropout=dropout)
    if kind == "transformer":
        return TransformerHistory(vocabulary_size, context_dim, dropout=dropout)
    if kind == "none":
        return NoHistory(vocabulary_size, context_dim)
    raise ArgumentError(f"history={kind!r}: expected one of {', '.join(KINDS)}")
