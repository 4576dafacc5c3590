# SPDX-License-Identifier: Apache-2.0
"""Tokens: which of them count, which stand before a place, and how one is drawn."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn_token(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Return one token for each row of logits.

    Args:
        logits: of shape ``batch + (V,)``.
        temperature: they are divided by it; 0 takes the most likely token.
        top_k: only so many most likely tokens are drawn from; None for all.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = scaled.topk(top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    flat = scaled.softmax(-1).reshape(-1, logits.shape[-1])
    return torch.multinomial(flat, 1).reshape(logits.shape[:-1])


def counted_tokens(tokens: Tensor, lengths: Tensor | None, end_token: int | None) -> Tensor:
    """Return which tokens count: those before the end, and the end mark itself.

    Args:
        tokens: of shape ``batch + (T,)``.
        lengths: of the sequences, or None.
        end_token: number of the mark that ends a sequence, or None.
    """
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    if lengths is not None:
        return place < lengths.unsqueeze(-1)
    if end_token is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    ended = (tokens == end_token).long()
    return ended.cumsum(-1) - ended == 0


def inputs_of(tokens: Tensor, vocabulary_size: int, dropout: float = 0.0) -> Tensor:
    """Return the token before each place; the first is the mark of the beginning, V.

    Args:
        tokens: of shape ``batch + (T,)``.
        vocabulary_size: V.
        dropout: probability that a token is replaced by the mark of one left out, V + 1.
    """
    first = torch.full_like(tokens[..., :1], vocabulary_size)
    inputs = torch.cat([first, tokens[..., :-1]], -1)
    if dropout > 0:
        left_out = torch.rand(inputs.shape, device=inputs.device) < dropout
        left_out[..., 0] = False
        inputs = inputs.masked_fill(left_out, vocabulary_size + 1)
    return inputs
