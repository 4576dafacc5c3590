# SPDX-License-Identifier: Apache-2.0
"""The ordinary likelihood of sequences: a recurrent network that is given z, and may ignore it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.distributions.autoregressive import SequenceLikelihood
from pyro_idvae.distributions.tokens import inputs_of


class NeuralAutoregressive(SequenceLikelihood):
    r"""Tokens by an LSTM with z in its first state and in every step.

    .. math:: s_0 = \tanh(A z), \quad s_l = \mathrm{LSTM}(s_{l-1}, [e(x_{l-1}), z]), \quad
        x_l \sim \mathrm{softmax}(U s_l)

    Nothing keeps it from giving z the weight 0: the twin that collapse is shown with. With ``skip``
    the logits are U s_l + D z, a path past the recurrence that may be ignored, too.

    Args:
        vocabulary_size: V.
        latent_dim: K.
        hidden_dim: width of the state.
        embedding_dim: of the tokens; ``hidden_dim`` by default.
        dropout: probability that an input token is left out in training.
        skip: whether z goes into each token's logits directly as well.
        end_token: number of the mark that ends a sequence; None if lengths are given.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NeuralAutoregressive
        >>> likelihood = NeuralAutoregressive(9, 2, hidden_dim=16)
        >>> likelihood.condition(torch.randn(4, 2), num_tokens=7).sample().shape
        torch.Size([4, 7])

    Reference:
        Bowman et al., *Generating Sentences from a Continuous Space*, CoNLL 2016; the skip is
        Dieng et al., *Avoiding Latent Variable Collapse with Generative Skip Models*, AISTATS 2019.
    """

    identifiable = False

    def __init__(
        self,
        vocabulary_size: int,
        latent_dim: int,
        *,
        hidden_dim: int = 100,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        skip: bool = False,
        end_token: int | None = None,
    ) -> None:
        super().__init__(vocabulary_size, latent_dim, end_token=end_token)
        self.dropout = check_real("dropout", dropout, at_least=0.0, below=1.0)
        self.hidden_dim = check_count("hidden_dim", hidden_dim)
        width = hidden_dim if embedding_dim is None else check_count("embedding_dim", embedding_dim)
        self.embedding = nn.Embedding(vocabulary_size + 2, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.network = nn.LSTM(width + latent_dim, hidden_dim, batch_first=True)
        self.start = nn.Linear(latent_dim, hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, vocabulary_size)
        self.direct: nn.Linear | None = None
        if skip:
            self.direct = nn.Linear(latent_dim, vocabulary_size, bias=False)

    def contexts(self, tokens: Tensor) -> Tensor:
        """Return the embedding of the token before each place."""
        dropout = self.dropout if self.training else 0.0
        found: Tensor = self.embedding(inputs_of(tokens, self.vocabulary_size, dropout))
        return found

    def logits(self, z: Tensor, contexts: Tensor) -> Tensor:
        """Return logits of each token, of shape ``batch + (T, V)``."""
        length = contexts.shape[-2]
        batch = torch.broadcast_shapes(z.shape[:-1], contexts.shape[:-2])
        inputs = contexts.expand(*batch, *contexts.shape[-2:]).reshape(-1, *contexts.shape[-2:])
        flat = z.expand(*batch, self.latent_dim).reshape(-1, self.latent_dim)
        cell = self.start(flat)
        joined = torch.cat([inputs, flat.unsqueeze(1).expand(-1, length, -1)], -1)
        states = self.network(joined, (cell.tanh().unsqueeze(0), cell.unsqueeze(0)))[0]
        found: Tensor = self.output(states)
        if self.direct is not None:
            found = found + self.direct(flat).unsqueeze(1)
        return found.reshape(*batch, length, self.vocabulary_size).to(z.dtype)
