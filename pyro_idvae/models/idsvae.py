# SPDX-License-Identifier: Apache-2.0
"""The identifiable sequential VAE, from sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.distributions.injective_autoregressive import InjectiveAutoregressive
from pyro_idvae.distributions.tokens import counted_tokens
from pyro_idvae.errors import ArgumentError, NotInjectiveError
from pyro_idvae.models.history import make_history
from pyro_idvae.models.sequence import SequenceEncoder, SequentialVAE
from pyro_idvae.models.sized_injection import DEFAULT_FLOOR
from pyro_idvae.models.start import begin_at_tokens
from pyro_idvae.transforms import conditional_injection


class IDSVAE(SequentialVAE):
    r"""The identifiable sequential VAE: tokens whose law is injective in z for every history.

    .. math:: z \sim N(0, I), \qquad x_l \mid z, x_{<l} \sim
        \mathrm{Categorical}\big(g_2(\beta\, g_1(z; h_l) + a(h_l))\big)

    See :class:`InjectiveAutoregressive`.

    Args:
        vocabulary_size: V.
        latent_dim: K.
        history: ``"lstm"``, ``"gru"``, ``"transformer"``, or ``"none"``.
        hidden_dim: width of the history.
        hidden_dims: ``[h]``, the width of g₁'s convex layer.
        output_hidden_dims: ``[h]``, the width of g₂'s; None leaves g₂ out.
        encoder_hidden_dim: width of the encoder's state.
        dropout: probability that the history misses a word, in training.
        base: tokens, of shape ``(rows, T)``, whose base rates f is in noise units of.
        base_lengths: of these sequences, if they are padded.
        wanted_nats: nats wanted of each latent of a sequence, near the base rates; with ``base``
            and no floor, 0.1. The floor L comes of :math:`\tfrac12\log(1+nL^2)`, n the mean number
            of tokens that count.
        strong_convexity: floor of both Brenier maps instead, 1 by default without ``base``.
        smoothness: ceiling of both Brenier maps.
        min_singular_value: floor of β instead, 1 by default without ``base``.
        end_token: number of the mark that ends a sequence; None if lengths are given.

    Raises:
        NotInjectiveError: for more latents than V − 1.
        ArgumentError: for ``wanted_nats`` without ``base`` or beside another floor.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import IDSVAE
        >>> tokens = torch.randint(9, (20, 7))
        >>> vae = IDSVAE(9, 2, base=tokens, hidden_dim=16, encoder_hidden_dim=16)
        >>> vae.model(tokens, torch.full((20,), 5)).shape
        torch.Size([20, 2])

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021.
    """

    def __init__(
        self,
        vocabulary_size: int,
        latent_dim: int,
        history: str = "lstm",
        *,
        hidden_dim: int = 100,
        hidden_dims: Sequence[int] | None = None,
        output_hidden_dims: Sequence[int] | None = (64,),
        encoder_hidden_dim: int = 100,
        dropout: float = 0.0,
        base: Tensor | None = None,
        base_lengths: Tensor | None = None,
        wanted_nats: float | None = None,
        strong_convexity: float | None = None,
        smoothness: float | None = None,
        min_singular_value: float | None = None,
        end_token: int | None = None,
    ) -> None:
        check_count("vocabulary_size", vocabulary_size, minimum=2)
        if check_count("latent_dim", latent_dim) >= vocabulary_size:
            raise NotInjectiveError(
                f"latent_dim={latent_dim} is larger than the {vocabulary_size - 1} free parameters "
                f"of {vocabulary_size} categories: take a latent_dim of at most "
                f"{vocabulary_size - 1}"
            )
        given = [
            name
            for name, value in (
                ("strong_convexity", strong_convexity),
                ("min_singular_value", min_singular_value),
            )
            if value is not None
        ]
        if wanted_nats is not None and (base is None or given):
            raise ArgumentError(
                f"wanted_nats={wanted_nats!r} sets every floor, in noise units: pass base=, and "
                "leave out strong_convexity and min_singular_value"
            )
        if base is not None and not given:
            part = _floor(wanted_nats, base, base_lengths, end_token) ** (
                1 / (2 if output_hidden_dims is None else 3)
            )
            strong_convexity = min_singular_value = part
        injection = conditional_injection(
            latent_dim,
            vocabulary_size - 1,
            hidden_dim,
            hidden_dims,
            output_hidden_dims=output_hidden_dims,
            strong_convexity=1.0 if strong_convexity is None else strong_convexity,
            smoothness=smoothness,
            min_singular_value=1.0 if min_singular_value is None else min_singular_value,
        )
        if base is not None:
            begin_at_tokens(injection, base, counted_tokens(base, base_lengths, end_token))
        likelihood = InjectiveAutoregressive(
            make_history(history, vocabulary_size, hidden_dim, dropout=dropout),
            injection,
            base=base,
            base_lengths=base_lengths,
            end_token=end_token,
        )
        encoder = SequenceEncoder(vocabulary_size, latent_dim, encoder_hidden_dim)
        super().__init__(likelihood, encoder)


def _floor(
    nats: float | None, base: Tensor, lengths: Tensor | None, end_token: int | None
) -> float:
    """Return L of the wanted nats a sequence."""
    counted = counted_tokens(base, lengths, end_token)
    number = float(counted.sum(-1).double().mean())
    if nats is None:
        return DEFAULT_FLOOR / math.sqrt(max(number, 1.0))
    return math.sqrt(math.expm1(2 * check_real("wanted_nats", nats, above=0.0)) / max(number, 1.0))
