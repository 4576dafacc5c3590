# SPDX-License-Identifier: Apache-2.0
"""Priors on a model's parameters: the fully Bayesian version of a small model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae import _upstream
from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError, ShapeError

Prior = Callable[[str, Tensor], Any]
"""(name, parameter) → a distribution of the parameter's shape."""


@dataclass(frozen=True)
class NormalPrior:
    """N(0, s²) for every number in a parameter."""

    scale: float

    def __call__(self, name: str, parameter: Tensor) -> Any:
        """Return the prior of a parameter."""
        return dist.Normal(torch.zeros_like(parameter), self.scale).to_event(parameter.dim())


def _use_given(msg: Any) -> None:
    """Let modules use the tensors they hold, without a word to Pyro's parameter store."""
    given = _upstream.given_parameter(msg)
    if isinstance(given, Tensor):
        msg["value"], msg["done"], msg["stop"] = given, True, True


@contextmanager
def _mode_of(outer: nn.Module, inner: nn.Module) -> Iterator[None]:
    """Run one module in the mode, training or evaluation, of another."""
    modes = [(part, part.training) for part in inner.modules()]
    try:
        for part, mode in modes:
            part.training = mode and outer.training
        yield
    finally:
        for part, mode in modes:
            part.training = mode


class BayesianModel(PyroModule):
    r"""A model whose parameters are latent: θ ~ prior, then the model with these parameters.

    Every parameter that requires grad becomes a sample site of the parameter's own name, outside
    all plates; the module's own values are left as they are. For decoders small enough that NUTS
    over all weights is feasible. Weights of a network are identified up to symmetries at best:
    compare what does not depend on them, such as log p(x|z) or the latents of an injective f up to
    a rotation.

    Args:
        model: a module, such as ``vae.model``.
        prior: standard deviation of Normal priors around 0, or a function of (name, parameter)
            that returns a distribution of the parameter's shape. Constrained parameters
            (``PyroParam``) get theirs on the unconstrained scale.

    Raises:
        ArgumentError: if the model is not a module, or has no parameters to put priors on.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.models import BayesianModel
        >>> vae = idvae.IDVAE(3, 1, "normal", hidden_dims=[4], encoder_hidden_dims=[4])
        >>> model = BayesianModel(vae.model, prior=1.0)
        >>> draws = idvae.mcmc(
        ...     model, torch.randn(5, 3), num_samples=5, warmup_steps=5, num_chains=1,
        ...     kernel_options={"max_tree_depth": 4}, progress=False,
        ... )
        >>> draws["posterior"]["likelihood.injection.g2.potential.weight"].shape
        (1, 5, 4, 3)
        >>> draws["posterior"]["latent"].shape
        (1, 5, 5, 1)
    """

    def __init__(self, model: nn.Module, prior: float | Prior = 1.0) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ArgumentError(
                f"model is a {type(model).__name__}: pass a module, such as vae.model; a function "
                "can name its priors itself"
            )
        if all(isinstance(getattr(model, half, None), nn.Module) for half in ("model", "guide")):
            raise ArgumentError(
                f"model is a {type(model).__name__}, which has a guide too: pass its .model"
            )
        # A sampler holds parameters fixed while it runs, so what is latent must be decided now.
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        if not self.names:
            raise ArgumentError("model has no parameters that require grad: nothing gets a prior")
        self.prior: Prior
        if callable(prior):
            self.prior = prior
        else:
            self.prior = NormalPrior(check_real("prior", prior, above=0.0))
        self._model = (model,)  # in a tuple: its parameters are not this module's

    def check_data(self, *args: Any, **kwargs: Any) -> None:
        """Raise as the model does for data it cannot take."""
        check = getattr(self.model, "check_data", None)
        if check is not None:
            check(*args, **kwargs)

    @property
    def model(self) -> nn.Module:
        """The model without priors on its parameters."""
        return self._model[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Sample the parameters, and run the model with them."""
        model = self.model
        values = {}
        for name in self.names:
            parameter = model.get_parameter(name).detach()
            prior = self.prior(name, parameter)
            if not hasattr(prior, "batch_shape"):
                raise ArgumentError(
                    f"prior of {name!r} is a {type(prior).__name__}: expected a Pyro distribution"
                )
            if prior.batch_shape + prior.event_shape != parameter.shape:
                raise ShapeError(
                    f"prior of {name!r} has shape {tuple(prior.batch_shape + prior.event_shape)}: "
                    f"expected that of the parameter, {tuple(parameter.shape)}"
                )
            values[name] = pyro.sample(name, prior.to_event(len(prior.batch_shape)))
        with _upstream.Handler(param=_use_given), _mode_of(self, model), warnings.catch_warnings():
            # Drawn values need no gradient; Pyro takes that for parameters somebody froze.
            warnings.filterwarnings("ignore", message=".*was not registered in the param store")
            return torch.func.functional_call(model, values, args, kwargs)
