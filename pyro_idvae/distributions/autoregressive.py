# SPDX-License-Identifier: Apache-2.0
"""Likelihoods of token sequences, given z and what stands before each token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pyro.distributions import ConditionalDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae._abstract import AbstractOrFinal, may_override, must_write
from pyro_idvae._checks import check_callable, check_count, check_last_dim, check_real
from pyro_idvae.distributions.at_parameters import AtParameters
from pyro_idvae.distributions.token_sequence import TokenSequence
from pyro_idvae.distributions.tokens import counted_tokens, drawn_token
from pyro_idvae.errors import ArgumentError, DataError, ShapeError

NUMBERS_AT_ONCE = 2**25
"""Logits in memory at once, where no gradients are asked for."""


class SequenceLikelihood(AbstractOrFinal, PyroModule):
    r"""x | z: tokens one after another, :math:`\prod_l p(x_l \mid z, x_{<l})`.

    Abstract: subclasses write :meth:`logits`, and may override :meth:`contexts`, what is computed
    from tokens alone. The rest is final.

    Sequences have T tokens, those after the end being padding that counts for nothing. The end is
    given, as ``lengths`` with each call, which p(x|z) is then conditional on; or, with
    ``end_token``, it is a token that is modelled like any other and closes the sequence.

    Args:
        vocabulary_size: V.
        latent_dim: K.
        end_token: number of the mark that ends a sequence; None if lengths are given.
    """

    def __init__(
        self, vocabulary_size: int, latent_dim: int, *, end_token: int | None = None
    ) -> None:
        super().__init__()
        self.vocabulary_size = check_count("vocabulary_size", vocabulary_size, minimum=2)
        self.latent_dim = check_count("latent_dim", latent_dim)
        if end_token is not None:
            check_count("end_token", end_token, minimum=0)
            if end_token >= vocabulary_size:
                raise ArgumentError(
                    f"end_token={end_token}: expected a token from 0 to {vocabulary_size - 1}"
                )
        self.end_token = end_token

    @may_override
    def contexts(self, tokens: Tensor) -> Tensor:
        """Return what tokens alone say of each place, of shape ``batch + (T, …)``."""
        return tokens.unsqueeze(-1)

    @must_write
    def logits(self, z: Tensor, contexts: Tensor) -> Tensor:
        """Return logits of each token, of shape ``batch + (T, V)``.

        Args:
            z: of shape ``batch + (K,)``.
            contexts: of :meth:`contexts`, whose batch broadcasts with z's.
        """
        raise NotImplementedError

    def forward(
        self, z: Tensor, *, num_tokens: int, lengths: Tensor | None = None
    ) -> TokenSequence:
        """Return the distribution of x given z; :meth:`condition` is the same.

        Args:
            z: latent values, of shape ``batch + (latent_dim,)``.
            num_tokens: T, padding included.
            lengths: of the sequences, from 0 to T, of a shape that broadcasts with the batch; all T
                tokens count if None. With an end mark there are none.

        Raises:
            ArgumentError: for lengths beside an end mark, or no whole numbers from 0 to T.
            ShapeError: for shapes that do not go together.
        """
        check_last_dim("z", z, self.latent_dim)
        check_count("num_tokens", num_tokens)
        if lengths is not None:
            self._check_lengths(lengths, num_tokens, z.shape[:-1])
        at = self._parameters_now()
        law = partial(at, "log_prob_of"), partial(at, "_generate")
        return TokenSequence(law, z, lengths, num_tokens, self.vocabulary_size)

    def _parameters_now(self) -> AtParameters:
        """Return this likelihood with its parameters as they are in this very call.

        Tokens are scored after the call, when Pyro no longer looks at which parameters are used,
        and what stood for them, such as draws of a prior on them, is gone. So they are shown to it
        here, and kept.
        """
        for name, _ in (*self.named_children(), *self.named_parameters(recurse=False)):
            getattr(self, name)  # which registers it with Pyro
        return AtParameters(self, dict(self.named_parameters()))

    def condition(self, z: Tensor, **options: Any) -> TokenSequence:
        """Return the distribution of x given z, as :meth:`forward` does."""
        found: TokenSequence = self(z, **options)
        return found

    def _check_lengths(self, lengths: Tensor, num_tokens: int, batch: torch.Size) -> None:
        if self.end_token is not None:
            raise ArgumentError(
                f"lengths were given, but end_token={self.end_token} ends the sequences: leave "
                "them out"
            )
        if not isinstance(lengths, Tensor) or lengths.is_floating_point():
            raise ArgumentError("lengths: expected a tensor of whole numbers")
        try:
            torch.broadcast_shapes(lengths.shape, batch)
        except RuntimeError as error:
            raise ShapeError(
                f"lengths has shape {tuple(lengths.shape)}: expected one that broadcasts with "
                f"{tuple(batch)}"
            ) from error
        if bool(((lengths < 0) | (lengths > num_tokens)).any()):
            raise DataError(f"lengths: expected whole numbers from 0 to {num_tokens}")

    def check_data(self, tokens: Tensor) -> None:
        """Raise a typed error unless these could be sequences of this likelihood.

        Args:
            tokens: of shape ``batch + (T,)``.
        """
        if not isinstance(tokens, Tensor) or tokens.dim() < 1:
            raise ShapeError("tokens: expected a tensor of shape batch + (T,)")
        if tokens.numel() == 0:
            raise DataError(f"tokens has shape {tuple(tokens.shape)}: there are no tokens")
        bad = (tokens < 0) | (tokens >= self.vocabulary_size) | (tokens != tokens.long())
        if bool(bad.any()):
            where = tuple(bad.nonzero()[0].tolist())
            raise DataError(
                f"tokens[{', '.join(map(str, where))}]={tokens[where].item():g} is no token "
                f"({int(bad.sum())} such entries): expected whole numbers from 0 to "
                f"{self.vocabulary_size - 1}"
            )

    def counted(self, tokens: Tensor, lengths: Tensor | None) -> Tensor:
        """Return which tokens count, of shape ``batch + (T,)``."""
        return counted_tokens(tokens, lengths, self.end_token)

    def log_prob_of(self, tokens: Tensor, z: Tensor, lengths: Tensor | None) -> Tensor:
        """Return log p(x|z) of sequences, of the batch shape that z, tokens and lengths have.

        Args:
            tokens: of shape ``batch + (T,)``.
            z: of shape ``batch + (K,)``.
            lengths: of shape ``batch``, or None.
        """
        counted = self.counted(tokens, lengths)
        contexts = self.contexts(tokens.masked_fill(~counted, 0) if lengths is not None else tokens)
        batch = torch.broadcast_shapes(z.shape[:-1], counted.shape[:-1])
        size = batch.numel() * tokens.shape[-1] * self.vocabulary_size
        if torch.is_grad_enabled() or size <= NUMBERS_AT_ONCE:
            return self._summed(tokens, z, contexts, counted)
        tail = contexts.shape[tokens.dim() - 1 :]
        flat = (
            tokens.expand(batch + tokens.shape[-1:]).flatten(0, len(batch) - 1),
            z.expand(batch + z.shape[-1:]).flatten(0, len(batch) - 1),
            contexts.expand(batch + tail).flatten(0, len(batch) - 1),
            counted.expand(batch + counted.shape[-1:]).flatten(0, len(batch) - 1),
        )
        rows = max(NUMBERS_AT_ONCE // (tokens.shape[-1] * self.vocabulary_size), 1)
        parts = zip(*(each.split(rows) for each in flat), strict=True)
        return torch.cat([self._summed(*part) for part in parts]).reshape(batch)

    def _summed(self, tokens: Tensor, z: Tensor, contexts: Tensor, counted: Tensor) -> Tensor:
        logits = self.logits(z, contexts)
        shape = logits.shape[:-1]
        each = nn.functional.cross_entropy(
            logits.reshape(-1, self.vocabulary_size),
            tokens.expand(shape).reshape(-1),
            reduction="none",
        )
        return -each.reshape(shape).masked_fill(~counted, 0.0).sum(-1)

    def _generate(self, z: Tensor, lengths: Tensor | None, num_tokens: int) -> Tensor:
        return self.generate(z, num_tokens, lengths=lengths)

    @torch.no_grad()
    def generate(
        self,
        z: Tensor,
        num_tokens: int,
        *,
        lengths: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        without: Sequence[int] = (),
    ) -> Tensor:
        """Draw sequences token by token.

        Args:
            z: of shape ``batch + (K,)``.
            num_tokens: T.
            lengths: of the sequences; after these, and after the end mark, there is padding.
            temperature: logits are divided by it; 0 takes the most likely token.
            top_k: only so many most likely tokens are drawn from.
            without: tokens that are not drawn, such as the mark of an unknown word.

        Returns:
            Tokens, of shape ``batch + (T,)``; padding is the end mark, or 0.

        Raises:
            ArgumentError: for ``without`` that is no list of tokens, or of all of them.
            DataError: for logits that are not finite.

        Example:
            >>> import torch
            >>> import pyro_idvae as idvae
            >>> vae = idvae.IDSVAE(9, 2, history="none", encoder_hidden_dim=8)
            >>> vae.likelihood.generate(torch.zeros(3, 2), 5, temperature=0.0).shape
            torch.Size([3, 5])
        """
        check_real("temperature", temperature, at_least=0.0)
        if top_k is not None:
            check_count("top_k", top_k)
        self._check_without(without)
        padding = 0 if self.end_token is None else self.end_token
        shape = z.shape[:-1]
        tokens = torch.full((*shape, num_tokens), padding, dtype=torch.long, device=z.device)
        training = self.training
        self.eval()  # no words are left out
        try:
            for place in range(num_tokens):
                seen = tokens[..., : place + 1]
                logits = self.logits(z, self.contexts(seen)[..., -1:, :]).squeeze(-2)
                if not bool(logits.isfinite().all()):
                    raise DataError(
                        f"the logits of token {place} are not finite: z or weights of the "
                        "likelihood hold NaN or numbers that are too large"
                    )
                logits[..., list(without)] = -torch.inf
                tokens[..., place] = drawn_token(logits, temperature, top_k)
                counted = self.counted(tokens, lengths)
                tokens = tokens.masked_fill(~counted, padding)
        finally:
            self.train(training)
        return tokens

    def _check_without(self, without: Sequence[int]) -> None:
        known = set(range(self.vocabulary_size))
        if not set(without) <= known or set(without) == known:
            raise ArgumentError(
                f"without={without!r}: expected some of the tokens from 0 to "
                f"{self.vocabulary_size - 1}, not all"
            )


ConditionalDistribution.register(SequenceLikelihood)


def check_history(history: Any) -> Any:
    """Return a history, or raise."""
    check_callable("history", history, "a module from tokens to contexts")
    if not isinstance(history, nn.Module) or not hasattr(history, "context_dim"):
        raise ArgumentError(
            f"history is a {type(history).__name__}: expected a module with a context_dim, such as "
            "RecurrentHistory"
        )
    return history
