# SPDX-License-Identifier: Apache-2.0
"""Can a model of sentences ignore z? Sequential VAEs on sentences of a known process."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_idvae.datasets import synthetic_text, text_lines
from pyro_idvae.distributions import NeuralAutoregressive
from pyro_idvae.experiments.contest import Contest, Remedy, named
from pyro_idvae.infer import Progress, WordDropout
from pyro_idvae.models import IDSVAE, SequenceEncoder, SequentialVAE

HIDDEN_DIM = 100
NUM_TRAIN, NUM_TEST = 16_000, 100
SIMULATED, YELP = (1000, 2), (2000, 4)
"""Words and latents, of sentences of the process and of Yelp's."""
FILES = "yelp_small.train.txt.gz", "yelp_small.test.txt.gz"
RATES = (2e-3, 4e-3)
WANTED, YELP_WANTED = (0.1, 0.5, 1.0), (0.3,)
LOWERED = 0.5
"""Share of the processor time after which word dropout is at its lowest."""
EVIDENCE = {"proposal": "guide", "num_chains": 4, "num_temperatures": 10}


class Case(NamedTuple):
    """Sentences to compare models on.

    Attributes:
        train: tokens, of shape ``(rows, T)``.
        test: held-out ones.
        vocabulary_size: V.
        latent_dim: K.
        wanted: nats a latent, of the identifiable models.
        end_token: number of the mark that ends a sentence, if there is one.
    """

    train: Tensor
    test: Tensor
    vocabulary_size: int
    latent_dim: int
    wanted: tuple[float, ...]
    end_token: int | None = None

    def ordinary(self, seed: int, *, skip: bool = False) -> SequentialVAE:
        """Return the ordinary sequential VAE.

        Args:
            seed: of the start.
            skip: whether z goes into each token's logits directly as well.
        """
        torch.manual_seed(seed)
        sizes = self.vocabulary_size, self.latent_dim
        likelihood = NeuralAutoregressive(
            *sizes, hidden_dim=HIDDEN_DIM, skip=skip, end_token=self.end_token
        )
        return SequentialVAE(likelihood, SequenceEncoder(*sizes, HIDDEN_DIM))

    def identifiable(self, nats: float, seed: int) -> IDSVAE:
        """Return the identifiable one.

        Args:
            nats: wanted of each latent.
            seed: of the start.
        """
        torch.manual_seed(seed)
        return IDSVAE(
            self.vocabulary_size,
            self.latent_dim,
            base=self.train,
            wanted_nats=nats,
            hidden_dim=HIDDEN_DIM,
            encoder_hidden_dim=HIDDEN_DIM,
            end_token=self.end_token,
        )


def simulated() -> tuple[Case, Any, Any]:
    """Return sentences of a known process, and the held-out draws with the process itself."""
    words, latents = SIMULATED
    train, process = synthetic_text(NUM_TRAIN, vocabulary_size=words, seed=0)
    test, _ = synthetic_text(NUM_TEST, vocabulary_size=words, seed=1)
    return Case(train.tokens, test.tokens, words, latents, WANTED), test, process


def yelp(folder: Path) -> Case:
    """Return sentences of Yelp's reviews.

    Args:
        folder: with the files.
    """
    words, latents = YELP
    train = text_lines(folder / FILES[0], vocabulary=words, labelled=True)
    test = text_lines(folder / FILES[1], vocabulary=train.vocabulary, labelled=True)
    return Case(
        train.tokens,
        test.tokens[:NUM_TEST],
        len(train.vocabulary),
        latents,
        YELP_WANTED,
        end_token=0,
    )


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


def remedies(case: Case) -> dict[str, Remedy]:
    """Return what is compared, by name."""
    ordinary, plain = case.ordinary, TraceMeanField_ELBO
    annealed = named("annealed", elbo=TraceMeanField_ELBO())
    skipping, middle = partial(ordinary, skip=True), case.wanted[len(case.wanted) // 2]
    return {
        "SVAE": Remedy(ordinary, plain),
        "SVAE, word dropout": Remedy(ordinary, plain, TimedWordDropout),
        "SVAE, annealed": Remedy(ordinary, annealed),
        "SVAE, free bits": Remedy(ordinary, named("free_bits")),
        "SVAE, lagging": Remedy(ordinary, named("lagging")),
        "SVAE, skip, word dropout": Remedy(skipping, plain, TimedWordDropout),
        f"IDSVAE, {middle:g} nats": Remedy(partial(case.identifiable, middle), plain),
        f"IDSVAE, {middle:g} nats, word dropout": Remedy(
            partial(case.identifiable, middle), plain, TimedWordDropout
        ),
        **{
            f"IDSVAE, {nats:g} nats, annealed": Remedy(partial(case.identifiable, nats), annealed)
            for nats in case.wanted
        },
    }


def run(
    out: Path,
    data: Path | None = None,
    *,
    num_seeds: int = 5,
    seconds: float = 60.0,
    num_samples: int = 300,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Tune, train and judge sequential VAEs, beside the process itself if it is known.

    Writes ``tuning.csv``, ``training.csv``, ``weights/``, ``text.csv`` and ``text.png``.

    Args:
        out: folder to write to.
        data: folder with sentences of Yelp; None for sentences of a known process.
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
        rates=RATES,
    )
    contest.begin(resume=resume, of="process" if data is None else "yelp")
    if data is not None:
        case = yelp(data)
        return contest.run(remedies(case), case.train, case.test, EVIDENCE)
    case, test, process = simulated()
    frame = contest.run(remedies(case), case.train, case.test, EVIDENCE)
    few = 10 if quick else NUM_TEST
    known, _ = process.log_evidence(test.tokens[:few], test.z[:few])
    told = process.log_likelihood(test.tokens[:few], test.z[:few]) - known
    for name, values in (("log p(x)", known), ("information", told)):
        print(
            f"the process itself: {name} {values.mean():.2f} ± "
            f"{values.std() / len(values) ** 0.5:.2f} nats a sentence (standard error)"
        )
    return frame
