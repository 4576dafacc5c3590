# SPDX-License-Identifier: Apache-2.0
"""Modes of z | x by Gauss–Newton steps, and the covariance there in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_idvae.distributions import InjectiveLikelihood
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.likelihood_call import LikelihoodCall
from pyro_idvae.programs.sole_likelihood import check_given
from pyro_idvae.transforms import BrenierInjection

LARGEST_INVERSE = 128
"""Data dimension above which the left inverse costs more than the steps it saves."""


def injective_call(bound: BoundModel) -> LikelihoodCall:
    """Return the injective likelihood at work in a model.

    Raises:
        NoCertificateError: if the model has none, the latent is not in one plate of the rows, or
            covariates, a mask or a number of trials are made of it.
    """
    call = bound.likelihood_call()
    if not isinstance(call.likelihood, InjectiveLikelihood):
        raise NoCertificateError(
            f"a {type(call.likelihood).__name__} has no left inverse: the closed form is for "
            "injective likelihoods; use pyro.infer.autoguide.AutoLaplaceApproximation"
        )
    value = call.latent["value"]
    if value.shape != (bound.rows, call.likelihood.latent_dim):
        raise NoCertificateError(
            f"the latent site has shape {tuple(value.shape)}: expected one plate of the "
            f"data's {bound.rows} rows around latents of {call.likelihood.latent_dim} dimensions"
        )
    check_given(bound, call)
    return call


class LogJoint:
    """log p(x|z) + log N(z; 0, I) of an injective likelihood, row by row, with its curvature.

    Args:
        likelihood: an injective likelihood.
        x: observations, of shape ``(n,) + event_shape``.
        covariates: its covariates.
        options: ``mask`` and ``total_count`` for the likelihood.
    """

    def __init__(
        self,
        likelihood: Any,
        x: Tensor,
        covariates: Tensor | None,
        options: dict[str, Any],
    ) -> None:
        self.likelihood: InjectiveLikelihood = likelihood
        self.mask: Tensor | None = options.get("mask")
        self.total_count: Tensor | None = options.get("total_count")
        self.x = likelihood.fill_missing(x, self.mask)
        self.shift: Tensor | None = None
        if likelihood.covariates is not None:
            self.shift = likelihood.family.in_units(likelihood.covariates(covariates))

    @classmethod
    def of(cls, call: LikelihoodCall) -> LogJoint:
        """Return that of the likelihood at work in a model, by :func:`injective_call`."""
        return cls(call.likelihood, call.observed["value"], call.covariates, call.options)

    def _eta(self, z: Tensor) -> Tensor:
        eta = self.likelihood.eta(z)
        return eta if self.shift is None else eta + self.shift

    def _of_eta(self, eta: Tensor) -> Tensor:
        family = self.likelihood.family
        distribution = family(eta, self.total_count)
        if self.mask is not None:
            distribution = distribution.mask(self.mask)
        log_prob: Tensor = distribution.log_prob(self.x)
        return log_prob.sum(-1) if family.factorised else log_prob

    def log_joint(self, z: Tensor) -> Tensor:
        """Return log p(x|z) − ‖z‖²/2, of shape ``(n,)``."""
        return self._of_eta(self._eta(z)) - 0.5 * z.square().sum(-1)

    def start(self) -> Tensor:
        """Return the left inverse of parameters near the observations."""
        likelihood = self.likelihood
        eta = likelihood.family.initial_eta(self.x, likelihood.parameter_dim)
        like = next(likelihood.injection.parameters(), eta)
        eta = eta.to(like.dtype)
        if self.shift is not None:
            eta = eta - self.shift
        injection = likelihood.injection
        # The inverse solves a system of data_dim unknowns for each row and Newton step.
        if isinstance(injection, BrenierInjection) and injection.data_dim > LARGEST_INVERSE:
            return eta.new_zeros(len(eta), likelihood.latent_dim)
        z: Tensor = injection.inv(eta)
        # No nearer to the prior's edge than a draw would be: far out the curvature is another one.
        reach = likelihood.latent_dim**0.5 + 3
        shrunk: Tensor = z * (reach / z.norm(dim=-1, keepdim=True)).clamp_max(1.0)
        return shrunk

    def gradient(self, z: Tensor) -> Tensor:
        """Return ∇ log p(x, z), of the shape of z; differentiable in the parameters."""
        eta = self._eta(z)
        with torch.enable_grad():
            leaf = eta if eta.requires_grad else eta.detach().requires_grad_()
            (score,) = torch.autograd.grad(
                self._of_eta(leaf).sum(), leaf, create_graph=eta.requires_grad
            )
        jacobian = self.likelihood.injection.jacobian(z)
        pulled: Tensor = (jacobian.mT @ score.unsqueeze(-1)).squeeze(-1)
        return pulled - z

    def precision(self, z: Tensor) -> Tensor:
        """Return I + JᵀI_ηJ, of shape ``(n, K, K)``."""
        pulled = self.likelihood.family.pulled_information(
            self._eta(z), self.likelihood.injection.jacobian(z), self.total_count, self.mask
        )
        return pulled + torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    @torch.no_grad()
    def mode(self, *, num_steps: int = 50, start: Tensor | None = None) -> Tensor:
        """Return local modes, of shape ``(n, K)``, by Gauss–Newton steps that only climb."""
        z = self.start() if start is None else start
        height = self.log_joint(z)
        # A start of no density at all, where an exponential link overflows, is left for 0.
        lost = ~height.isfinite()
        if bool(lost.any()):
            z = torch.where(lost.unsqueeze(-1), torch.zeros_like(z), z)
            height = self.log_joint(z)
        tolerance = 64 * torch.finfo(z.dtype).eps
        for _ in range(num_steps):
            factor, _ = torch.linalg.cholesky_ex(self.precision(z))
            direction = torch.cholesky_solve(self.gradient(z).unsqueeze(-1), factor).squeeze(-1)
            length = torch.ones_like(height)
            for _ in range(20):
                trial = z + length.unsqueeze(-1) * direction
                trial_height = self.log_joint(trial)
                better = trial_height > height
                if bool(better.all()):
                    break
                length = torch.where(better, length, 0.5 * length)
            z = torch.where(better.unsqueeze(-1), trial, z)
            height = torch.where(better, trial_height, height)
            moved = (length.unsqueeze(-1) * direction).norm(dim=-1) * better
            if bool((moved <= tolerance * (1 + z.norm(dim=-1))).all()):
                break
        return z

    def differentiable_mode(self, z: Tensor) -> Tensor:
        """Return modes z with the gradient that the implicit function theorem gives them.

        One Newton step from the mode does not move it, and carries −H⁻¹ ∂∇log p/∂θ.
        """
        z = z.detach()
        with torch.enable_grad():
            leaf = z.clone().requires_grad_()
            slope = self.gradient(leaf)
            rows = [
                torch.autograd.grad(slope[:, k].sum(), leaf, retain_graph=True)[0]
                for k in range(z.shape[-1])
            ]
        hessian = torch.stack(rows, -2).detach()
        slope = self.gradient(z)
        newton: Tensor = torch.linalg.solve(hessian, slope.unsqueeze(-1)).squeeze(-1)
        return z - newton


def inverse(precision: Tensor) -> Tensor:
    """Return the inverses of positive definite matrices; NaN where they are not."""
    factor, failed = torch.linalg.cholesky_ex(precision)
    broken = ((failed > 0) | ~factor.isfinite().all(-1).all(-1))[:, None, None]
    eye = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    # One factor that is singular would raise for all.
    found = torch.cholesky_inverse(torch.where(broken, eye, factor))
    return torch.where(broken, torch.full_like(found, torch.nan), found)
