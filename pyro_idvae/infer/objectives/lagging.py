# SPDX-License-Identifier: Apache-2.0
"""An encoder that is trained ahead of the decoder, until its information stops growing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.infer.objectives.halves import Halves, for_some
from pyro_idvae.infer.objectives.mixture_information import mixture_information
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run, run_guide
from pyro_idvae.programs.arguments import (
    Arguments,
    as_arguments,
    placed,
    row_count,
    take_rows,
    tensors_of,
)
from pyro_idvae.programs.run import Program, evaluating, undisturbed

CLOSE = 0.9
"""From this share of its cap on, information says that rows are told apart, and no more."""


class Lagging(Objective):
    r"""Aggressive training of the encoder: many steps of the guide alone for one of the model.

    The loss is the −ELBO at every step; what differs is who gets gradients. While *aggressive*, the
    guide alone is trained until the mean loss of ``window`` steps is not below that of the window
    before, or ``inner_steps`` have been taken; then the model alone takes one step. After every
    ``check_every`` steps of the model the information about the row in the guide's draws is
    estimated,

    .. math:: I_q = \frac1N\sum_i\mathbb E_{q(z|x_i)}\Bigl[\log q(z|x_i)
        - \log\frac1N\sum_j q(z|x_j)\Bigr] \le \log N,

    and once it has not risen ``patience`` times in a row, both are trained together as ever.

    The mixture is that of N = ``rows`` rows of ``data``. :func:`fit` gives the training data if
    there are none; with plain ``SVI`` and no data the batch at hand must do, where information
    saturates at log B and says little. Above 0.9 log N no rise can be seen: it counts as none.

    *Helps* where the posterior moves faster than the encoder can follow, early in training. *Does
    not help* where the collapse is the optimum. Until the aggressive phase ends, the model learns
    many times slower for the same work.

    Args:
        inner_steps: steps of the guide for one of the model, at most; 0 for none.
        window: steps whose mean loss is compared with the window before.
        check_every: steps of the model from one look at the information to the next.
        patience: looks without a rise after which the phase ends.
        rows: N at most, at equal distances in the data.
        data: training data: a tensor, or a tuple or dict of them.
        **options: arguments of :class:`Objective`.

    Attributes:
        aggressive: whether the phase lasts.
        information: the last estimate, in nats; NaN before the first.
        cap: log N of that estimate.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import Lagging
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> lagging = Lagging(inner_steps=3, window=1, check_every=2)
        >>> options = {"num_epochs": 30, "seed": 0, "progress": False}
        >>> _ = idvae.fit(vae.model, vae.guide, torch.randn(20, 5), objective=lagging, **options)
        >>> 0 < lagging.information < lagging.cap < 3.0
        True

    Reference:
        He, Spokoyny, Neubig & Berg-Kirkpatrick, *Lagging Inference Networks and Posterior Collapse
        in Variational Autoencoders*, ICLR 2019.
    """

    exempt: Mapping[str, str] = {
        "gradient": "a step has the gradient of one half of the parameters; inner_steps=0 obeys",
    }

    def __init__(
        self,
        inner_steps: int = 30,
        *,
        window: int = 10,
        check_every: int = 25,
        patience: int = 1,
        rows: int = 1000,
        data: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.inner_steps = check_count("inner_steps", inner_steps, minimum=0)
        self.window = check_count("window", window)
        self.check_every = check_count("check_every", check_every)
        self.patience = check_count("patience", patience)
        self.rows = check_count("rows", rows, minimum=2)
        if inner_steps == 0:
            self.exempt = {}
        self._data = None if data is None else self._some(as_arguments(data))
        self._has_own_data = data is not None
        self._known: tuple[Program, Program, Halves] | None = None
        self.restart()

    def restart(self) -> None:
        """Forget all steps."""
        self.aggressive = self.inner_steps > 0
        self.model_turn = False
        self.inner_taken = self.model_taken = self.without_rise = 0
        self.total, self.before = 0.0, math.inf
        self.information, self.best, self.cap = math.nan, -math.inf, math.nan

    STATE = (
        "aggressive",
        "model_turn",
        "inner_taken",
        "model_taken",
        "without_rise",
        "total",
        "before",
        "information",
        "best",
        "cap",
    )

    def state_dict(self) -> dict[str, Any]:
        """Return whose turn it is, and what was seen."""
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` returned."""
        for name in self.STATE:
            setattr(self, name, state[name])

    def attach(self, arguments: Arguments) -> None:
        """Take rows of the training data for the mixture, unless there are some."""
        if not self._has_own_data:
            self._data = self._some(arguments)

    def _some(self, arguments: Arguments) -> Arguments:
        count = row_count(arguments)
        kept = torch.linspace(0, count - 1, min(count, self.rows)).round().long()
        return take_rows(arguments, kept)

    def runs(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Iterator[Run]:
        """Yield the runs, once it is known whose the parameters are."""
        known = self._known
        if training and self.aggressive and not (known and known[:2] == (model, guide)):
            self._known = model, guide, Halves(model, guide, arguments)
        yield from super().runs(model, guide, arguments, training=training)

    def of_runs(self, runs: Sequence[Run], *, training: bool) -> Tensor:
        """Return the mean −ELBO, with gradients for those whose turn it is."""
        loss = super().of_runs(runs, training=training)
        if not (training and self.aggressive) or self._known is None:
            return loss
        halves = self._known[2]
        turns = halves.of_guide(), halves.of_model()
        return for_some(loss, *(turns[::-1] if self.model_turn else turns))

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the −ELBO."""
        return run.negative_elbo

    def advance(self, runs: Sequence[Run]) -> None:
        """Decide whose turn is next."""
        if not self.aggressive:
            return
        if self.model_turn:
            self.model_turn, self.inner_taken = False, 0
            self.total, self.before = 0.0, math.inf
            self.model_taken += 1
            if self.model_taken % self.check_every == 0:
                self._look(runs[0].arguments)
            return
        self.inner_taken += 1
        self.total += sum(float(run.negative_elbo.detach() / run.size) for run in runs) / len(runs)
        if self.inner_taken % self.window == 0:
            self.model_turn = self.total >= self.before
            self.total, self.before = 0.0, self.total
        self.model_turn |= self.inner_taken >= self.inner_steps

    def _look(self, batch: Arguments) -> None:
        """Estimate the information, and end the phase if it has stopped rising."""
        arguments = batch
        if self._data is not None:
            arguments = placed(self._data, tensors_of(batch)[0].device)
        if self._known is None:
            return
        guide = self._known[1]
        with torch.no_grad(), poutine.block(), undisturbed(arguments), evaluating(guide):
            trace = run_guide(guide, arguments)
            self.information, rows = mixture_information(trace, type(self).__name__)
        self.cap = math.log(rows)
        rises = self.best < self.information < CLOSE * self.cap
        self.best = max(self.best, self.information)
        self.without_rise = 0 if rises else self.without_rise + 1
        self.aggressive = self.without_rise < self.patience

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: no programs."""
        return {**vars(self), "_known": None}
