# SPDX-License-Identifier: Apache-2.0
"""A guide without an encoder: the Laplace approximation of an injective likelihood's posterior."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae._checks import check_count
from pyro_idvae.errors import DataError
from pyro_idvae.infer.laplace.log_joint import LogJoint, injective_call, inverse
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.door import check_program, open_model
from pyro_idvae.programs.likelihood_call import LikelihoodCall
from pyro_idvae.programs.run import Program


class LaplaceStart(NamedTuple):
    """Where chains may begin, and in which metric."""

    site: str
    loc: Tensor
    """Modes, of shape ``(rows, K)``."""
    scale_tril: Tensor
    """Cholesky factors of the covariances there, of shape ``(rows, K, K)``."""


class AutoInjectiveLaplace(PyroModule):
    r"""q(z|x) = N(z*, (I + JᵀI_ηJ)⁻¹): mode and curvature of an injective likelihood's posterior.

    .. math:: z^* = \arg\max_z \log p(x|z) - \tfrac12\|z\|^2,\qquad
        q(z|x) = N\bigl(z^*, (I + J(z^*)^\top I_\eta J(z^*))^{-1}\bigr)

    with the injection's Jacobian J and the family's Fisher information I_η, both in closed form. An
    injective f has a left inverse, so the search starts near the answer: at the left inverse of
    the observations, which are first pulled inside the range of means; Gauss–Newton steps that only
    climb do the rest. There are no parameters to train and no encoder. The draws depend on the
    model's parameters differentiably, by the implicit function theorem, so a model can be trained
    with it.

    A guide for the model it was made of; ``mcmc(..., start=guide)`` begins chains at its draws and
    in its metric.

    Args:
        model: a model whose one latent site, with prior N(0, I), goes into an injective likelihood
            that scores the one observed site.
        num_steps: Gauss–Newton steps at most.

    Raises:
        NoCertificateError: when called, if the model is not such a one, or its family has no
            closed form of the Fisher information.
        DataError: if the curvature at a mode overflows.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> guide = idvae.AutoInjectiveLaplace(vae.model)
        >>> x = torch.randn(7, 5)
        >>> guide(x).shape
        torch.Size([7, 2])
        >>> idvae.from_guide(vae.model, guide, x, num_samples=10)["posterior"]["latent"].shape
        (1, 10, 7, 2)
    """

    def __init__(self, model: Program, *, num_steps: int = 50) -> None:
        super().__init__()
        check_program("model", model)
        self._model = (model,)  # in a tuple: the model's parameters are not the guide's
        self.num_steps = check_count("num_steps", num_steps)
        self._last: tuple[list[Tensor], LaplaceStart, LikelihoodCall] | None = None

    def start(self, data: Any) -> LaplaceStart:
        """Return modes and Cholesky factors of the covariances, without gradients.

        Args:
            data: a Tensor, or a tuple or dict of the model's arguments.
        """
        args, kwargs = as_arguments(data)
        return self._approximation(args, kwargs)[0]

    def __getstate__(self) -> dict[str, Any]:
        # What is remembered belongs to this object's model: it does not travel.
        return {**self.__dict__, "_last": None}

    @torch.inference_mode(False)
    @torch.no_grad()
    def _approximation(self, args: Any, kwargs: Any) -> tuple[LaplaceStart, LikelihoodCall]:
        """Return modes, factors and the likelihood; those of the last call if nothing changed."""
        # Compared by value: optimisers may write to parameters without leaving a trace.
        inputs = [*args, *kwargs.values(), *_state(self._model[0])]
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        if self._last is not None and _equal(tensors, self._last[0]):
            return self._last[1:]
        call = injective_call(open_model(self._model[0], (args, kwargs), scored=False))
        posterior = LogJoint.of(call)
        mode = posterior.mode(num_steps=self.num_steps)
        covariance = inverse(posterior.precision(mode))
        if not bool(covariance.isfinite().all()):
            raise DataError(
                "the curvature at the mode of some rows is not finite: the likelihood's parameters "
                "overflow there; use smaller Lipschitz bounds, or double precision"
            )
        start = LaplaceStart(call.latent["name"], mode, torch.linalg.cholesky(covariance))
        if tensors and isinstance(self._model[0], nn.Module):
            self._last = [value.clone() for value in tensors], start, call
        return start, call

    @torch.inference_mode(False)
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the guide on the model's arguments; returns z."""
        (site, loc, factor), call = self._approximation(args, kwargs)
        distribution = dist.MultivariateNormal(loc, scale_tril=factor)
        if torch.is_grad_enabled():
            posterior = LogJoint.of(call)
            mode = posterior.differentiable_mode(loc)
            distribution = dist.MultivariateNormal(mode, precision_matrix=posterior.precision(mode))
        with ExitStack() as stack:
            for frame in call.latent["cond_indep_stack"]:
                if frame.dim is not None:
                    stack.enter_context(pyro.plate(frame.name, frame.size, dim=frame.dim))
            z: Tensor = pyro.sample(site, distribution)
        return z


def _state(model: Program) -> list[Tensor]:
    """Return what a module's density depends on."""
    return [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []


def _equal(tensors: list[Tensor], others: list[Tensor]) -> bool:
    return len(tensors) == len(others) and all(map(torch.equal, tensors, others))
