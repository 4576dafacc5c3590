# SPDX-License-Identifier: Apache-2.0
"""Any ELBO, of programs whose latents' densities are weighted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.infer import Trace_ELBO
from pyro.infer.elbo import ELBO
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program


class Weighted(ELBO):
    r"""Any ELBO of a model and guide whose latents' log densities are multiplied by a weight w:

    .. math:: \mathbb E_q[\log p(x|z)] - w\,\mathrm{KL}(q(z|x)\,\|\,p(z))

    The weight is a tensor that the programs' sites are scaled by, so whatever computes the ELBO
    heeds it, score functions included. Sites that ``TraceEnum_ELBO`` sums out must be of one scale:
    a mixture in the prior can be weighted, an observation that depends on its assignment cannot.

    A subclass writes :meth:`training_weight` and :meth:`evaluation_weight`.

    Args:
        elbo: a Pyro ELBO; ``Trace_ELBO()`` by default.

    Attributes:
        exempt: laws of :class:`ObjectiveTestCase` that the objective does not obey, and why.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import Weighted
        >>> class Half(Weighted):
        ...     def training_weight(self):
        ...         return 0.5
        ...     def evaluation_weight(self):
        ...         return 1.0
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x, options = torch.randn(20, 5), {"num_epochs": 2, "seed": 0, "progress": False}
        >>> idvae.fit(vae.model, vae.guide, x, objective=Half(), **options).num_epochs
        2
    """

    exempt: Mapping[str, str] = {}

    def __init__(self, elbo: Any = None) -> None:
        self.elbo: Any = Trace_ELBO() if elbo is None else elbo
        if isinstance(elbo, type) or not hasattr(self.elbo, "loss_and_grads"):
            raise ArgumentError(
                f"elbo={elbo!r:.60}: expected an instance of a Pyro ELBO, e.g. "
                "pyro.infer.TraceMeanField_ELBO()"
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self._weight = torch.ones((), dtype=torch.double)
        self._programs: dict[str, tuple[Program, Program]] = {}

    @property
    def weight(self) -> Tensor:
        """The weight of the last loss, a tensor."""
        return self._weight

    def training_weight(self) -> float:
        """Return the weight of the step to be taken."""
        raise NotImplementedError

    def evaluation_weight(self) -> float:
        """Return the weight by which epochs compare."""
        raise NotImplementedError

    def advance(self) -> None:
        """Move a schedule on, after a step."""

    def begin_epoch(self, epoch: int) -> None:
        """Take note of an epoch that begins, counted from 0: :func:`fit` says so."""
        tell(self.elbo, "begin_epoch", epoch)

    def attach(self, arguments: Arguments) -> None:
        """Hand the training data on."""
        tell(self.elbo, "attach", arguments)

    def restart(self) -> None:
        """Forget all steps."""
        tell(self.elbo, "restart")

    def trained_guide(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Program:
        """Return the guide that was trained."""
        own = getattr(self.elbo, "trained_guide", None)
        return guide if own is None else own(model, guide, *args, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the ELBO that is weighted."""
        return {"elbo": self.elbo.state_dict()} if hasattr(self.elbo, "state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` returned."""
        if "elbo" in state:
            self.elbo.load_state_dict(state["elbo"])

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of the weight by which epochs compare, without a step."""
        self._set(self.evaluation_weight())
        return self.elbo.loss(*self._pair(model, guide), *args, **kwargs)

    def differentiable_loss(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss as a tensor; it counts as a step where gradients are recorded."""
        training = torch.is_grad_enabled()
        self._set(self.training_weight() if training else self.evaluation_weight())
        loss = self.elbo.differentiable_loss(*self._pair(model, guide), *args, **kwargs)
        if training:
            self.advance()
        return loss  # type: ignore[no-any-return]

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Any:
        """Return the loss, its gradients in the parameters."""
        self._set(self.training_weight())
        loss = self.elbo.loss_and_grads(*self._pair(model, guide), *args, **kwargs)
        self.advance()
        return loss

    def _set(self, weight: float) -> None:
        # A new tensor: the old one may be part of a graph whose gradients are still to be taken.
        self._weight = torch.tensor(weight, dtype=torch.double)

    def _pair(self, model: Program, guide: Program) -> tuple[Program, Program]:
        return self._weighted("model", model), self._weighted("guide", guide)

    def _weighted(self, role: str, program: Program) -> Program:
        known, weighted = self._programs.get(role, (None, None))
        if known is not program or weighted is None:
            weighted = _upstream.Handler(sample=self._scale)(program)
            self._programs[role] = program, weighted
        return weighted

    def _scale(self, msg: Any) -> None:
        if not msg["is_observed"] and not _upstream.is_subsampling(msg):
            msg["scale"] = msg["scale"] * self._weight

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        pair = self._pair(model, guide)
        return _upstream.trace_of(self.elbo, *pair, args, kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: no programs."""
        return {**vars(self), "_programs": {}}


def innermost(elbo: Any) -> Any:
    """Return the ELBO that others weight."""
    while isinstance(elbo, Weighted):
        elbo = elbo.elbo
    return elbo


def tell(elbo: Any, method: str, *arguments: Any) -> None:
    """Call a method of an objective that has it."""
    function = getattr(elbo, method, None)
    if function is not None:
        function(*arguments)
