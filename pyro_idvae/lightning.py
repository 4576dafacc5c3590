# SPDX-License-Identifier: Apache-2.0
"""Any Pyro pair as a LightningModule: Lightning's trainer, our objectives, collapse in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.diagnostics import active_units, kl_to_prior
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.infer.enumerated import check_enumeration
from pyro_idvae.infer.fit.objective import chosen, prepare, sampled_kl
from pyro_idvae.infer.objectives.weighted import innermost, tell
from pyro_idvae.programs.arguments import (
    Arguments,
    as_arguments,
    has_rows,
    row_count,
    tensors_of,
    with_tensors,
)
from pyro_idvae.programs.door import check_pair
from pyro_idvae.programs.parameters import claim_parameters
from pyro_idvae.programs.plates import check_minibatch, subsampled_size
from pyro_idvae.programs.run import Program, owners_of

try:
    import lightning
except ImportError as missing:
    raise ImportError(
        "lightning is not installed: pip install 'pyro_idvae[lightning]'"
    ) from missing

__all__ = ["LightningSVI"]


class LightningSVI(lightning.LightningModule):
    """Stochastic variational inference of a Pyro model and guide by Lightning's ``Trainer``.

    The objective is the negative ELBO *per data point*, in nats, or a remedy for posterior
    collapse, as :func:`pyro_idvae.fit` has it: a batch stands for all rows. Its parameters are
    those of the modules behind model and guide; with strategy ``"ddp"`` each must have a gradient
    in each step. Training batches are what the model takes: a tensor, or a tuple or dict of its
    arguments.

    Logged, in nats per data point: ``train_loss``; and of validation data ``val_loss``, ``val_kl``,
    KL of the guide by a draw, and where the guide's marginals are Normal ``val_least_nats``, the
    least mean KL to the prior of a latent, and ``val_active_units``, both of each process's first
    ``collapse_rows`` rows.

    Args:
        model: the model, a module or a method of one.
        guide: its guide, likewise.
        example: a batch, to make lazy parameters and to check what may be trained.
        num_rows: of all training data; a batch is allowed to be less than all of them if every
            site is inside the data plate.
        elbo: a Pyro ELBO; ``Trace_ELBO()`` by default.
        objective: a remedy for posterior collapse instead, a name or one of ``make_objective``.
        optimizer: a function of the parameters; Adam with a learning rate of 1e-3 by default.
        collapse_rows: validation rows that latents are looked at by.

    Raises:
        ArgumentError: for parameters in Pyro's store that no module owns, or as :func:`fit` does.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.lightning import LightningSVI
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(64, 5)
        >>> module = LightningSVI(vae.model, vae.guide, x, num_rows=64, objective="free_bits")
        >>> bool(module.training_step(x, 0).isfinite())
        True
    """

    def __init__(
        self,
        model: Program,
        guide: Program,
        example: Any,
        *,
        num_rows: int,
        elbo: Any = None,
        objective: Any = None,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] | None = None,
        collapse_rows: int = 1000,
    ) -> None:
        super().__init__()
        check_count("num_rows", num_rows)
        self.collapse_rows = check_count("collapse_rows", collapse_rows)
        first = as_arguments(example, "example")
        check_pair(model, guide, first)
        self.objective = chosen(elbo, objective, 0)
        self.make_optimizer = optimizer or partial(torch.optim.Adam, lr=1e-3)
        claim = claim_parameters(model, guide, first)
        check_enumeration(innermost(self.objective), claim.model_trace, claim.guide_trace)
        if subsampled_size(claim.model_trace) is None and row_count(first) < num_rows:
            check_minibatch(model, guide, first, claim.model_trace, num_rows)
        prepare(self.objective, model, guide, first)
        tell(self.objective, "attach", first)
        tell(self.objective, "restart")
        self.owners = torch.nn.ModuleList(owners_of(model, guide))
        own = {id(parameter) for parameter in self.parameters()}
        left = sorted(name for name, p in claim.parameters.items() if id(p) not in own)
        if left:
            raise ArgumentError(
                f"the parameters {left} are in Pyro's store and in no module: Lightning trains "
                "modules; make them PyroParam attributes of a PyroModule, or use fit(...)"
            )
        # Not as attributes: what is a module would be registered twice, under two names.
        self.pair = (model, guide)
        self._seen: list[Arguments] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of the parameters that require gradients."""
        return self.make_optimizer([p for p in self.parameters() if p.requires_grad])

    def on_train_epoch_start(self) -> None:
        """Tell the objective, some of which have schedules, which epoch begins."""
        tell(self.objective, "begin_epoch", self.current_epoch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch per data point."""
        args, kwargs = arguments = as_arguments(batch, "batch")
        rows = row_count(arguments)
        loss: Tensor = self.objective.differentiable_loss(*self.pair, *args, **kwargs) / rows
        self._note("train_loss", loss.detach(), rows)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss and the KL of a batch, and keep rows to look at latents by."""
        args, kwargs = arguments = as_arguments(batch, "batch")
        rows = row_count(arguments)
        self._note("val_loss", self.objective.loss(*self.pair, *args, **kwargs) / rows, rows)
        devices = [] if self.device.index is None else [self.device.index]
        self._note("val_kl", sampled_kl(*self.pair, arguments, rows, devices), rows)
        if sum(map(row_count, self._seen)) < self.collapse_rows and _fits(arguments, self._seen):
            self._seen.append(arguments)

    def on_validation_epoch_end(self) -> None:
        """Log how much each latent knows."""
        parts, self._seen = self._seen, []
        if not parts:
            return
        columns = zip(*map(tensors_of, parts), strict=True)
        args, kwargs = with_tensors(parts[0], tuple(map(torch.cat, columns)))
        try:
            nats = kl_to_prior(*self.pair, kwargs or args)
            active = active_units(*self.pair, kwargs or args)
        except (NoCertificateError, ArgumentError):  # of guides that are not Normal, for instance
            return
        self._note("val_least_nats", nats.flatten(1).mean(0).min(), len(nats))
        self._note("val_active_units", active.float().sum(), len(nats))

    def _note(self, name: str, value: Any, rows: int) -> None:
        try:
            _ = self.trainer
        except RuntimeError:  # not under a trainer: nobody reads a log
            return
        self.log(name, value, on_step=False, on_epoch=True, batch_size=rows, sync_dist=True)


def _fits(arguments: Arguments, others: Sequence[Arguments]) -> bool:
    """Tell whether all tensors have rows, which can be put below those of others."""
    shapes = [[tuple(t.shape[1:]) for t in tensors_of(one)] for one in (arguments, *others[:1])]
    return all(map(has_rows, tensors_of(arguments))) and shapes[0] == shapes[-1]
