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
from pyro_idvae.distributions import Likelihood, SequenceLikelihood
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.sites import (
    factor_sites,
    latent_sites,
    observed_sites,
    unwrap_events,
    unwrap_masks,
)


class LikelihoodCall(NamedTuple):
    """A likelihood at work in a model whose prior is N(0, I)."""

    likelihood: Any
    """A ``Likelihood`` or ``SequenceLikelihood``."""
    latent: Any
    """The node of the latent site in the trace."""
    observed: Any
    """The node of the observed site."""
    covariates: Tensor | None
    options: dict[str, Any]
    """``mask`` and ``total_count``, if the model passed them."""


class Call(NamedTuple):
    """One call of a likelihood."""

    likelihood: Any
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    output: Any


class Recorder:
    """Finds the likelihoods that a program calls, then listens to their calls.

    Two runs, as a hook on all modules does not see keyword arguments.
    """

    def __init__(self) -> None:
        self.likelihoods: list[Any] = []
        self.calls: list[Call] = []

    @contextmanager
    def finding(self) -> Iterator[None]:
        """Note every likelihood that is called."""

        def note(module: Any, args: Any, output: Any) -> None:
            known = any(module is other for other in self.likelihoods)
            if isinstance(module, Likelihood | SequenceLikelihood) and not known:
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

    What it returns has the posterior ∝ N(z; 0, I) p(x|z) as far as one run can tell. Whether
    covariates or options are made of z, only other runs can: see :mod:`.sole_likelihood`.

    Args:
        trace: a run of the model.
        calls: the calls of likelihoods in that run.

    Raises:
        NoCertificateError: unless the likelihood's input is the latent site's value itself, the
            prior is N(0, I), its output is the observed site's distribution, and there is no
            other density.
    """
    latents, observed = latent_sites(trace), observed_sites(trace)
    if len(latents) != 1 or len(observed) != 1:
        raise NoCertificateError(
            f"the model has the latent sites {sorted(latents)} and the observed sites "
            f"{sorted(observed)}: the closed form is for one latent vector and one observation"
        )
    if factors := sorted(factor_sites(trace)):
        raise NoCertificateError(
            f"the model has the sites {factors} of pyro.factor: the closed form knows the "
            "likelihood and the prior N(0, I) alone; take terms that do not depend on z out"
        )
    (name,) = latents
    call, data = scoring_call(trace, calls, name)
    if call.inputs[0] is not trace.nodes[name]["value"]:
        raise not_fed_with(name)
    latent = trace.nodes[name]
    if not is_standard_normal(latent["fn"]):
        raise NoCertificateError(
            f"the prior of the site {name!r} is not N(0, I): the closed form is for that prior "
            "only; standardise z and put the rest into the map"
        )
    if data["mask"] is not None:
        raise NoCertificateError(
            "observations are masked by poutine.mask: give the mask to the likelihood, by "
            "condition(z, mask=...)"
        )
    options = dict(call.options)
    covariates = options.pop("covariates", call.inputs[1] if len(call.inputs) > 1 else None)
    return LikelihoodCall(call.likelihood, latent, data, covariates, options)


def scoring_call(
    trace: Any, calls: list[Call], latent: str, *, masked: bool = False
) -> tuple[Call, Any]:
    """Return the call whose output is the distribution of an observed site, and that site.

    Args:
        trace: a run of the model, the latent drawn or conditioned on.
        calls: the calls of likelihoods in that run.
        latent: name of the latent site.
        masked: whether a mask may stand between the output and the site, of continuous data: there
            one can see through it.

    Raises:
        NoCertificateError: if there is none, it is not fed with the latent, or densities of the two
            sites are scaled or the latent's masked.
    """
    observed = {name: site for name, site in observed_sites(trace).items() if name != latent}
    if not calls:
        raise NoCertificateError(
            "the model calls no injective likelihood, so nothing is guaranteed: an injection whose "
            "output goes into a plain distribution is not seen, nor is a likelihood that is made "
            "anew in each run; make it once and score with "
            "InjectiveBernoulli(injection).condition(z) or another family"
        )
    found = [
        (call, site)
        for site in observed.values()
        for call in calls
        if _is_same(call.output, site["fn"], masked=masked and not site["fn"].support.is_discrete)
    ]
    if not found:
        raise NoCertificateError(
            "what the likelihood returns is not the distribution of the "
            f"{'site' if len(observed) == 1 else 'sites'} {', '.join(map(repr, observed))}: "
            "something stands between them, a mask or another transformation, which may lose "
            "information"
        )
    call, data = found[0]
    node = trace.nodes[latent]
    if not call.inputs or not is_view(call.inputs[0], node["value"]):
        raise not_fed_with(latent)
    if not _is_one(data["scale"]) or not _is_one(node["scale"]):
        raise NoCertificateError("the model's densities are scaled: its posterior is another one")
    hidden = node["mask"] is not None and not _is_one(node["mask"])
    if hidden or isinstance(unwrap_events(node["fn"]), dist.MaskedDistribution):
        raise NoCertificateError(
            f"the latent site {latent!r} is masked by poutine.mask or .mask(): the posterior is "
            "another one; mask observations only, by condition(z, mask=...)"
        )
    return call, data


def not_fed_with(latent: str) -> NoCertificateError:
    """Return the error for a likelihood whose input is not the latent."""
    return NoCertificateError(
        f"the likelihood is not fed with the value of the site {latent!r} itself but with "
        "something made of it, which may lose information: call condition(z) with the sample"
    )


def is_view(value: Any, whole: Tensor) -> bool:
    """Tell whether a tensor is another one, expanded over more rows or not."""
    if value is whole:
        return True
    if not isinstance(value, Tensor) or not _upstream.is_same_memory(value, whole):
        return False
    try:
        return bool(torch.equal(value, whole.expand(value.shape)))
    except RuntimeError:
        return False


def _is_one(value: Any) -> bool:
    """Tell whether a scale or a mask changes nothing."""
    return bool((torch.as_tensor(value) == 1).all())


def _is_same(distribution: Any, other: Any, *, masked: bool) -> bool:
    """Tell whether two distributions are one, up to a plate's expansion: of the same tensors."""
    wrapped = [isinstance(unwrap_events(d), dist.MaskedDistribution) for d in (distribution, other)]
    if wrapped[0] != wrapped[1] and not masked:
        return False
    first, second = (_upstream.tensor_addresses(unwrap_masks(d)) for d in (distribution, other))
    shared = set(first) & set(second)
    same = type(unwrap_masks(distribution)) is type(unwrap_masks(other))
    return same and bool(shared) and all(first[name] == second[name] for name in shared)


def is_standard_normal(distribution: Any) -> bool:
    """Tell whether a distribution is N(0, I)."""
    distribution = unwrap_events(distribution)
    if isinstance(distribution, dist.MultivariateNormal):
        eye = torch.eye(distribution.event_shape[0]).to(distribution.scale_tril)
        standard = (distribution.scale_tril == eye).all()
    elif isinstance(distribution, dist.Normal):
        standard = (distribution.scale == 1).all()
    else:
        return False
    return bool(standard and (distribution.loc == 0).all())
