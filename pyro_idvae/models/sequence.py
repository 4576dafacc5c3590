# SPDX-License-Identifier: Apache-2.0
"""Sequential variational autoencoders as a Pyro model/guide pair, identifiable or not."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_idvae._checks import check_callable, check_count
from pyro_idvae.distributions.autoregressive import SequenceLikelihood
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.models.encoder import MIN_SCALE


class SequenceEncoder(nn.Module):
    """q(z|x): a Normal of the last state of an LSTM or GRU that reads the tokens that count.

    Args:
        vocabulary_size: V.
        latent_dim: K.
        hidden_dim: width of the state.
        kind: ``"lstm"`` or ``"gru"``.
        embedding_dim: of the tokens; ``hidden_dim`` by default.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import SequenceEncoder
        >>> tokens = torch.zeros(4, 7, dtype=torch.long)
        >>> SequenceEncoder(9, 2, hidden_dim=16)(tokens).sample().shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        vocabulary_size: int,
        latent_dim: int,
        hidden_dim: int = 100,
        *,
        kind: str = "lstm",
        embedding_dim: int | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("lstm", "gru"):
            raise ArgumentError(f"kind={kind!r}: expected 'lstm' or 'gru'")
        width = hidden_dim if embedding_dim is None else check_count("embedding_dim", embedding_dim)
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.embedding = nn.Embedding(vocabulary_size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        network: Any = nn.LSTM if kind == "lstm" else nn.GRU
        self.network = network(width, check_count("hidden_dim", hidden_dim), batch_first=True)
        self.last = nn.Linear(hidden_dim, 2 * latent_dim)

    def forward(self, tokens: Tensor, counted: Tensor | None = None) -> Any:
        """Return q(z|x).

        Args:
            tokens: of shape ``(rows, T)``.
            counted: which of them count, likewise: the first ones of each row; all if None.
        """
        states = self.network(self.embedding(tokens.long()))[0]
        if counted is None:
            last = states[..., -1, :]
        else:
            place = (counted.sum(-1) - 1).clamp_min(0)
            index = place[..., None, None].expand(*place.shape, 1, states.shape[-1])
            last = states.gather(-2, index).squeeze(-2)
            last = last.masked_fill(~counted.any(-1, keepdim=True), 0.0)  # no tokens, no state
        loc, raw = self.last(last).to(self.last.weight.dtype).chunk(2, dim=-1)
        return dist.Normal(loc, softplus(raw) + MIN_SCALE).to_event(1)


class SequenceModel(PyroModule):
    """z ~ N(0, I), tokens | z ~ likelihood, in a plate ``data``.

    Sites: ``latent`` of event shape ``(latent_dim,)`` and ``obs`` of event shape ``(T,)``.

    Args:
        likelihood: p(x|z).
    """

    def __init__(self, likelihood: SequenceLikelihood) -> None:
        super().__init__()
        check_sequence_likelihood(likelihood)
        self.likelihood = likelihood

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the model on sequences of shape ``(n, T)``; returns z.

        Args:
            tokens: the sequences, padded.
            lengths: how many tokens of each count, n numbers; all of them if None.
        """
        like = next(self.likelihood.parameters())
        with pyro.plate("data", len(tokens)):
            loc = like.new_zeros(self.likelihood.latent_dim)
            z: Tensor = pyro.sample("latent", dist.Normal(loc, torch.ones_like(loc)).to_event(1))
            conditional = self.likelihood.condition(z, num_tokens=tokens.shape[-1], lengths=lengths)
            pyro.sample("obs", conditional, obs=tokens)
        return z

    def check_data(self, tokens: Tensor, lengths: Tensor | None = None) -> None:
        """Raise a typed error unless the model can take these sequences."""
        self.likelihood.check_data(tokens)
        if tokens.dim() != 2:
            raise ShapeError(f"tokens has shape {tuple(tokens.shape)}: expected (rows, T)")
        if lengths is not None:
            self.likelihood._check_lengths(lengths, tokens.shape[-1], tokens.shape[:-1])


class SequenceGuide(PyroModule):
    """z ~ encoder(tokens), in the plate ``data``.

    Args:
        encoder: a module from tokens, and which of them count, to a Pyro distribution of event
            shape ``(latent_dim,)``.
        likelihood: that says which tokens count.
    """

    def __init__(self, encoder: nn.Module, likelihood: SequenceLikelihood) -> None:
        super().__init__()
        check_callable("encoder", encoder, "a module from tokens to a distribution of z")
        self.encoder = encoder
        self._counted = (likelihood,)  # in a tuple: its parameters are the model's

    def posterior(self, tokens: Tensor, lengths: Tensor | None = None) -> Any:
        """Return q(z|x)."""
        (likelihood,) = self._counted
        return self.encoder(tokens, likelihood.counted(tokens, lengths))

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the guide on sequences; returns z."""
        with pyro.plate("data", len(tokens)):
            z: Tensor = pyro.sample("latent", self.posterior(tokens, lengths))
        return z


class SequentialVAE(nn.Module):
    """A likelihood of sequences and an encoder as a Pyro model/guide pair.

    Args:
        likelihood: p(x|z), such as :class:`NeuralAutoregressive` or
            :class:`InjectiveAutoregressive`.
        encoder: q(z|x), such as :class:`SequenceEncoder`.

    Attributes:
        model: a ``PyroModule`` with sites ``latent`` and ``obs`` in a plate ``data``.
        guide: a ``PyroModule`` with the site ``latent``.

    Raises:
        ShapeError: for an encoder of other latents.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NeuralAutoregressive
        >>> from pyro_idvae.models import SequenceEncoder, SequentialVAE
        >>> vae = SequentialVAE(NeuralAutoregressive(9, 2, hidden_dim=8), SequenceEncoder(9, 2, 8))
        >>> vae.model(torch.zeros(4, 7, dtype=torch.long)).shape
        torch.Size([4, 2])
    """

    def __init__(self, likelihood: SequenceLikelihood, encoder: nn.Module) -> None:
        super().__init__()
        check_sequence_likelihood(likelihood)
        found = getattr(encoder, "latent_dim", likelihood.latent_dim)
        if found != likelihood.latent_dim:
            raise ShapeError(
                f"the encoder has latent_dim={found} but the likelihood has "
                f"latent_dim={likelihood.latent_dim}: they must be the same"
            )
        self.model = SequenceModel(likelihood)
        self.guide = SequenceGuide(encoder, likelihood)

    @property
    def likelihood(self) -> Any:
        """The model's likelihood."""
        return self.model.likelihood

    @property
    def encoder(self) -> nn.Module:
        """The guide's encoder."""
        encoder: nn.Module = self.guide.encoder
        return encoder


def check_sequence_likelihood(likelihood: Any) -> None:
    """Raise unless something is a likelihood of sequences."""
    if not isinstance(likelihood, SequenceLikelihood):
        raise ArgumentError(
            f"likelihood is a {type(likelihood).__name__}: pass an InjectiveAutoregressive or a "
            "NeuralAutoregressive"
        )
