# SPDX-License-Identifier: Apache-2.0
"""Sentences of a known process, in which a latent says much of every word."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_idvae.datasets.sizes import check_seed, check_size

MEANS = ((2.0, 2.0), (2.0, -2.0), (-2.0, 2.0), (-2.0, -2.0))
LATENT_DIM, STATE_DIM, LARGE = 2, 100, 5.0
"""Width of the latent and of the state; largest weight of the latent on a word's logit."""


class TextProcess(nn.Module):
    r"""The process that the sentences are of; nothing of it is learned.

    .. math:: k \sim U\{1,…,4\},\quad z \sim N(m_k, I_2),\quad m = (\pm 2, \pm 2),\quad
        c_0 = Az,\quad h_0 = \tanh c_0

    The first word is any one; then :math:`x_{t+1} \sim \mathrm{softmax}(B h_t + D z)` with h the
    states of an LSTM that reads the words' embeddings and z. D is uniform on (−5, 5), all other
    parameters on (−1, 1).

    Args:
        vocabulary_size: V.
        seed: of the parameters.

    Reference:
        He, Spokoyny, Neubig and Berg-Kirkpatrick, *Lagging Inference Networks and Posterior
        Collapse in Variational Autoencoders*, ICLR 2019.
    """

    def __init__(self, vocabulary_size: int = 1000, *, seed: int = 0) -> None:
        super().__init__()
        self.vocabulary_size = check_size("vocabulary_size", vocabulary_size)
        with torch.random.fork_rng(devices=[]):  # layers draw weights that are not kept
            self.embedding = nn.Embedding(vocabulary_size, STATE_DIM)
            self.network = nn.LSTM(STATE_DIM + LATENT_DIM, STATE_DIM, batch_first=True)
            self.start = nn.Linear(LATENT_DIM, STATE_DIM, bias=False)
            self.output = nn.Linear(STATE_DIM, vocabulary_size, bias=False)
            self.direct = nn.Linear(LATENT_DIM, vocabulary_size, bias=False)
        generator = torch.Generator().manual_seed(check_seed(seed))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                most = LARGE if name == "direct.weight" else 1.0
                parameter.copy_(most * (2 * torch.rand(parameter.shape, generator=generator) - 1))
        self.requires_grad_(False)

    def _logits(self, words: Tensor, z: Tensor) -> Tensor:
        """Return logits of the words after each of some, of shape ``(rows, T, V)``."""
        cell = self.start(z)
        state = (cell.tanh().unsqueeze(0), cell.unsqueeze(0))
        given = z.unsqueeze(1).expand(-1, words.shape[1], -1)
        states = self.network(torch.cat([self.embedding(words), given], -1), state)[0]
        logits: Tensor = self.output(states) + self.direct(z).unsqueeze(1)
        return logits

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z), of shape ``batch``, in nats."""
        apart = (z.unsqueeze(-2) - torch.tensor(MEANS).to(z)).square().sum(-1)
        constant = math.log(len(MEANS)) + math.log(2 * math.pi)
        return (-0.5 * apart).logsumexp(-1) - constant

    def log_likelihood(self, tokens: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) of sentences, of shape ``(rows,)``, in nats.

        Args:
            tokens: of shape ``(rows, T)``.
            z: of shape ``(rows, 2)``.
        """
        words = tokens.long()
        later = words[:, 1:]
        logits = self._logits(words[:, :-1], z)
        chosen = logits.gather(-1, later.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        return chosen.sum(-1) - math.log(self.vocabulary_size)

    def log_evidence(
        self, tokens: Tensor, z: Tensor, *, num_draws: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return log p(x) of sentences and its Monte-Carlo standard error, in nats.

        Draws are weighed that come in halves from the prior and from around the z that made each
        sentence: no row's weight is then above 2·p(x|z), and the estimate is right whatever z is.

        Args:
            tokens: of shape ``(rows, T)``.
            z: that made them, of shape ``(rows, 2)``.
            num_draws: an even number.
            seed: of the draws.
        """
        half = check_size("num_draws", num_draws) // 2
        generator = torch.Generator().manual_seed(check_seed(seed))
        near = 0.3
        values, errors = [], []
        for row, own in zip(tokens, z, strict=True):
            noise = torch.randn(2 * half, LATENT_DIM, generator=generator)
            component = torch.randint(len(MEANS), (half,), generator=generator)
            drawn = torch.cat(
                [torch.tensor(MEANS)[component] + noise[:half], own + near * noise[half:]]
            )
            local = -0.5 * ((drawn - own) / near).square().sum(-1) - math.log(2 * math.pi * near**2)
            log_q = torch.logaddexp(self.log_prior(drawn), local) - math.log(2)
            likelihood = self.log_likelihood(row.expand(len(drawn), -1), drawn)
            log_w = (likelihood + self.log_prior(drawn) - log_q).double()
            weight = (log_w - log_w.max()).exp()
            values.append(log_w.max() + weight.mean().log())
            errors.append(weight.std() / weight.mean() / math.sqrt(len(weight)))
        return torch.stack(values), torch.stack(errors)

    def draw(self, num_data: int, *, num_tokens: int = 10, seed: int = 0) -> TextData:
        """Draw sentences with the latents that made them."""
        check_size("num_data", num_data)
        check_size("num_tokens", num_tokens)
        generator = torch.Generator().manual_seed(check_seed(seed))
        component = torch.randint(len(MEANS), (num_data,), generator=generator)
        z = torch.tensor(MEANS)[component]
        z = z + torch.randn(num_data, LATENT_DIM, generator=generator)
        tokens = torch.zeros(num_data, num_tokens, dtype=torch.long)
        tokens[:, 0] = torch.randint(self.vocabulary_size, (num_data,), generator=generator)
        cell = self.start(z).unsqueeze(0)
        state = (cell.tanh(), cell)
        for place in range(1, num_tokens):
            joined = torch.cat([self.embedding(tokens[:, place - 1 : place]), z.unsqueeze(1)], -1)
            states, state = self.network(joined, state)
            logits = self.output(states[:, 0]) + self.direct(z)
            chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            tokens[:, place] = chosen.squeeze(-1)
        return TextData(tokens, z, component)


class TextData(NamedTuple):
    """Sentences of a :class:`TextProcess`.

    Attributes:
        tokens: of shape ``(n, T)``.
        z: the latents that made them, of shape ``(n, 2)``.
        components: of the latents.
    """

    tokens: Tensor
    z: Tensor
    components: Tensor


def synthetic_text(
    num_data: int = 16_000,
    *,
    vocabulary_size: int = 1000,
    num_tokens: int = 10,
    seed: int = 0,
    process_seed: int = 0,
) -> tuple[TextData, TextProcess]:
    """Draw sentences whose true likelihood and latents are known.

    Args:
        num_data: sentences.
        vocabulary_size: V.
        num_tokens: words of each.
        seed: of the sentences: train and held-out ones have different seeds.
        process_seed: of the process: these have the same.

    Returns:
        The sentences and the process, whose ``log_evidence`` is what no model can beat on average.

    Raises:
        ValueError: for sizes below 1, or seeds out of range.

    Example:
        >>> from pyro_idvae.datasets import synthetic_text
        >>> data, process = synthetic_text(20, vocabulary_size=50)
        >>> data.tokens.shape, process.log_likelihood(data.tokens, data.z).shape
        (torch.Size([20, 10]), torch.Size([20]))

    Reference:
        He, Spokoyny, Neubig and Berg-Kirkpatrick, *Lagging Inference Networks and Posterior
        Collapse in Variational Autoencoders*, ICLR 2019.
    """
    process = TextProcess(vocabulary_size, seed=process_seed)
    return process.draw(num_data, num_tokens=num_tokens, seed=seed), process
