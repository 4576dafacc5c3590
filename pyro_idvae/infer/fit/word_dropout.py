# SPDX-License-Identifier: Apache-2.0
"""Words that are left out at first, so that latents are learned before the history is."""

from __future__ import annotations

from typing import Any

from pyro_idvae._abstract import may_override
from pyro_idvae._checks import check_count, check_real
from pyro_idvae.distributions import NeuralAutoregressive, SequenceLikelihood
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.fit.callbacks import Callback, Progress
from pyro_idvae.models.history import History


class WordDropout(Callback):
    """Lowers the word dropout of a likelihood of sequences from epoch to epoch.

    A history that reads all words from the beginning soon says what z could say, and z falls to its
    floor before it is learned. With most words left out at first, z is what predicts, and it stays
    where the likelihood keeps it once the words are there.

    Args:
        likelihood: of sequences, whose ``dropout`` it sets, at once and after each epoch.
        first: probability that a word is left out at the beginning.
        last: at the end of ``epochs`` and from there on.
        hold: share of ``epochs`` in which it stays at ``first``.
        epochs: after which it is ``last``.

    Raises:
        ArgumentError: for a likelihood without words to leave out, or numbers out of range.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDSVAE(9, 2, hidden_dim=8, encoder_hidden_dim=8)
        >>> lower = idvae.WordDropout(vae.likelihood, first=0.9, last=0.1, epochs=2)
        >>> options = {"num_epochs": 2, "progress": False, "callbacks": [lower]}
        >>> _ = idvae.fit(vae.model, vae.guide, torch.randint(9, (20, 7)), **options)
        >>> vae.likelihood.history.dropout
        0.1

    Reference:
        Bowman et al., *Generating Sentences from a Continuous Space*, CoNLL 2016.
    """

    def __init__(
        self,
        likelihood: SequenceLikelihood,
        *,
        first: float = 0.95,
        last: float = 0.3,
        hold: float = 0.25,
        epochs: int = 8,
    ) -> None:
        found: Any = likelihood.modules() if isinstance(likelihood, SequenceLikelihood) else ()
        self.parts: list[Any] = [
            part
            for part in found
            if isinstance(part, NeuralAutoregressive)
            or (isinstance(part, History) and part.embedding is not None)
        ]
        if not self.parts:
            raise ArgumentError(
                f"likelihood is a {type(likelihood).__name__}: expected a likelihood of sequences "
                "with a history whose words can be left out"
            )
        self.first = check_real("first", first, at_least=0.0, below=1.0)
        self.last = check_real("last", last, at_least=0.0, below=1.0)
        self.hold = check_real("hold", hold, at_least=0.0, below=1.0)
        self.epochs = check_count("epochs", epochs)
        self._set(0.0)

    def _set(self, share: float) -> None:
        """Set the probabilities after a share of the way."""
        self.reached = share
        way = min(max((share - self.hold) / (1 - self.hold), 0.0), 1.0)
        rate = self.last if way == 1 else self.first + way * (self.last - self.first)
        for part in self.parts:
            part.dropout = rate

    @may_override
    def share(self, progress: Progress) -> float:
        """Return how far training is on the way to ``last``, from 0 to 1."""
        return (progress.epoch + 1) / self.epochs

    def on_epoch(self, progress: Progress) -> None:
        """Set the dropout of the next epoch."""
        self._set(self.share(progress))

    def state_dict(self) -> dict[str, float]:
        """Return how far it is."""
        return {"share": self.reached}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from there."""
        self._set(state["share"])
