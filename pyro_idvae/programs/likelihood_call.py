# SPDX-License-Identifier: Apache-2.0
"""Which likelihood stands between the latent and the observed site of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.sites import latent_sites, observed_sites, unwrap_events, unwrap_masks


class LikelihoodCall(NamedTuple):
    """A likelihood at work in a model whose prior is N(0, I)."""

    likelihood: Likelihood
    latent: Any
    """The node of the latent site in the trace."""
    observed: Any
    """The node of the observed site."""
    covariates: Tensor | None
    options: dict[str, Any]
    """``mask`` and ``total_count``, if the model passed them."""


class Call(NamedTuple):
    """One call of a likelihood."""

    likelihood: Likelihood
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    output: Any


class Recorder:
    """Finds the likelihoods that a program calls, then listens to their calls.

    Two runs, as a hook on all modules does not see keyword arguments.
    """

    def __init__(self) -> None:
        self.likelihoods: list[Likelihood] = []
        self.calls: list[Call] = []

    @contextmanager
    def finding(self) -> Iterator[None]:
        """Note every likelihood that is called."""

        def note(module: Any, args: Any, output: Any) -> None:
            known = any(module is other for other in self.likelihoods)
            if isinstance(module, Likelihood) and not known:
                self.likelihoods.append(module)

        handle = _upstream.on_module_call(note)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the calls of the likelihoods found."""

        def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            self.calls.append(Call(module, args, kwargs, output))

        handles = [m.register_forward_hook(note, with_kwargs=True) for m in self.likelihoods]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def find_likelihood(trace: Any, calls: list[Call]) -> LikelihoodCall:
    """Return the likelihood that takes the one latent and scores the one observation.

    Args:
        trace: a run of the model.
        calls: the calls of likelihoods in that run.

    Raises:
        NoCertificateError: unless the likelihood's input is the latent site's value itself, the
            prior is N(0, I), and its output is the observed site's distribution.
    """
    latents, observed = latent_sites(trace), observed_sites(trace)
    if len(latents) != 1 or len(observed) != 1:
        raise NoCertificateError(
            f"the model has the latent sites {sorted(latents)} and the observed sites "
            f"{sorted(observed)}: the window is proved for one latent vector and one observation"
        )
    (name, latent), (other, data) = latents.popitem(), observed.popitem()
    if not calls:
        raise NoCertificateError(
            "the model calls no injective likelihood, so nothing is guaranteed: an injection whose "
            "output goes into a plain distribution is not seen; score with "
            "InjectiveBernoulli(injection).condition(z) or another family"
        )
    scoring = [call for call in calls if _is_same(call.output, data["fn"])]
    if not scoring:
        raise NoCertificateError(
            f"what the likelihood returns is not the distribution of the site {other!r}: something "
            "stands between them, a mask or another transformation, which may lose information"
        )
    likelihood, inputs, options, _ = scoring[0]
    if not inputs or inputs[0] is not latent["value"]:
        raise NoCertificateError(
            f"the likelihood is not fed with the value of the site {name!r} itself but with "
            "something made of it, which may lose information: call condition(z) with the sample"
        )
    if data["scale"] != 1.0 or latent["scale"] != 1.0:
        raise NoCertificateError("the model's densities are scaled: its posterior is another one")
    if not _is_standard_normal(latent["fn"]):
        raise NoCertificateError(
            f"the prior of the site {name!r} is not N(0, I): the window is proved for that prior "
            "only; standardise z and put the rest into the map"
        )
    if data["mask"] is not None or latent["mask"] is not None:
        raise NoCertificateError(
            "observations are masked by poutine.mask: give the mask to the likelihood, by "
            "condition(z, mask=...)"
        )
    options = dict(options)
    covariates = options.pop("covariates", inputs[1] if len(inputs) > 1 else None)
    return LikelihoodCall(likelihood, latent, data, covariates, options)


def is_masked(node: Any) -> bool:
    """Tell whether a mask takes observations out of a site's density."""
    return isinstance(unwrap_events(node["fn"]), dist.MaskedDistribution)


def _is_same(distribution: Any, other: Any) -> bool:
    """Tell whether two distributions are one, up to a plate's expansion: of the same tensors."""
    wrapped = [isinstance(unwrap_events(d), dist.MaskedDistribution) for d in (distribution, other)]
    if wrapped[0] != wrapped[1]:
        return False
    first, second = (_upstream.tensor_addresses(unwrap_masks(d)) for d in (distribution, other))
    shared = set(first) & set(second)
    same = type(unwrap_masks(distribution)) is type(unwrap_masks(other))
    return same and bool(shared) and all(first[name] == second[name] for name in shared)


def _is_standard_normal(distribution: Any) -> bool:
    distribution = unwrap_events(distribution)
    if isinstance(distribution, dist.MultivariateNormal):
        eye = torch.eye(distribution.event_shape[0]).to(distribution.scale_tril)
        standard = (distribution.scale_tril == eye).all()
    elif isinstance(distribution, dist.Normal):
        standard = (distribution.scale == 1).all()
    else:
        return False
    return bool(standard and (distribution.loc == 0).all())
