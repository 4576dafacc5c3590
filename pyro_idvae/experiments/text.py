# SPDX-License-Identifier: Apache-2.0
"""Can a model of sentences ignore z? Sequential VAEs on sentences of a known process."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_idvae.datasets import synthetic_text
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.experiments.contest import Contest, Remedy, named
from pyro_idvae.infer import Progress, WordDropout
from pyro_idvae.models import IDSVAE, SequenceEncoder, SequentialVAE

VOCABULARY, LATENT_DIM, HIDDEN_DIM = 1000, 2, 100
NUM_TRAIN, NUM_TEST = 16_000, 300
WANTED = (0.1, 0.5, 1.0)
LOWERED = 0.5
"""Share of the processor time after which word dropout is at its lowest."""
EVIDENCE = {"proposal": "guide", "num_chains": 8}


class TimedWordDropout(WordDropout):
    """Lowers word dropout by processor time.

    Args:
        vae: whose likelihood it is.
        seconds: of processor time that training takes.
    """

    def __init__(self, vae: SequentialVAE, seconds: float) -> None:
        super().__init__(vae.likelihood)
        self.seconds, self.start = LOWERED * seconds, time.process_time()

    def share(self, progress: Progress) -> float:
        """Return the share of the time that is over."""
        return (time.process_time() - self.start) / self.seconds


def make_ordinary(skip: bool, seed: int) -> SequentialVAE:
    """Return the ordinary sequential VAE.

    Args:
        skip: whether z goes into each token's logits directly as well.
        seed: of the start.
    """
    torch.manual_seed(seed)
    likelihood = NeuralAutoregressive(VOCABULARY, LATENT_DIM, hidden_dim=HIDDEN_DIM, skip=skip)
    return SequentialVAE(likelihood, SequenceEncoder(VOCABULARY, LATENT_DIM, HIDDEN_DIM))


def make_identifiable(base: Tensor, nats: float, seed: int) -> IDSVAE:
    """Return the identifiable one.

    Args:
        base: sentences, for noise units.
        nats: wanted of each latent.
        seed: of the start.
    """
    torch.manual_seed(seed)
    return IDSVAE(
        VOCABULARY,
        LATENT_DIM,
        base=base,
        wanted_nats=nats,
        hidden_dim=HIDDEN_DIM,
        encoder_hidden_dim=HIDDEN_DIM,
    )


def remedies(base: Tensor) -> dict[str, Remedy]:
    """Return what is compared, by name."""
    ordinary, plain = partial(make_ordinary, False), TraceMeanField_ELBO
    skipping = partial(make_ordinary, True)
    return {
        "SVAE": Remedy(ordinary, plain),
        "SVAE, word dropout": Remedy(ordinary, plain, TimedWordDropout),
        "SVAE, annealed": Remedy(ordinary, named("annealed", elbo=TraceMeanField_ELBO())),
        "SVAE, free bits": Remedy(ordinary, named("free_bits")),
        "SVAE, lagging": Remedy(ordinary, named("lagging")),
        "SVAE, skip": Remedy(skipping, plain),
        "SVAE, skip, word dropout": Remedy(skipping, plain, TimedWordDropout),
        "IDSVAE, 0.5 nats wanted": Remedy(partial(make_identifiable, base, 0.5), plain),
        **{
            f"IDSVAE, {nats:g} nats, word dropout": Remedy(
                partial(make_identifiable, base, nats), plain, TimedWordDropout
            )
            for nats in WANTED
        },
    }


def run(
    out: Path,
    *,
    num_seeds: int = 5,
    seconds: float = 200.0,
    num_samples: int = 500,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Tune, train and judge sequential VAEs beside the process itself.

    Writes ``tuning.csv``, ``training.csv``, ``weights/``, ``text.csv`` and ``text.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a model.
        seconds: of processor time a run, those that choose the learning rate included.
        num_samples: draws of the guide a sentence.
        quick: one seed of a second, untuned, judged by a few sentences.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a model and seed: the columns of :attr:`Evaluation.row`, and what was trained how.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    contest = Contest(
        out,
        "text",
        "sentence",
        num_seeds=num_seeds,
        seconds=seconds,
        num_samples=num_samples,
        quick=quick,
    )
    contest.begin(resume=resume)
    train, process = synthetic_text(NUM_TRAIN, vocabulary_size=VOCABULARY, seed=0)
    test, _ = synthetic_text(NUM_TEST, vocabulary_size=VOCABULARY, seed=1)
    frame = contest.run(remedies(train.tokens), train.tokens, test.tokens, EVIDENCE)
    few = 10 if quick else NUM_TEST
    known, _ = process.log_evidence(test.tokens[:few], test.z[:few])
    told = process.log_likelihood(test.tokens[:few], test.z[:few]) - known
    for name, values in (("log p(x)", known), ("information", told)):
        print(
            f"the process itself: {name} {values.mean():.2f} ± "
            f"{values.std() / len(values) ** 0.5:.2f} nats a sentence (standard error)"
        )
    return frame
