# SPDX-License-Identifier: Apache-2.0
"""The KL of each latent site to its prior, coordinate by coordinate where it has coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence
from torch.distributions.constraints import independent, real

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.sites import check_sites, latent_sites

PARTICLES = "num_particles_vectorized"
"""Name of the plate that Pyro gives draws that are made side by side."""


@dataclass(frozen=True)
class SiteKL:
    """The KL of one latent site.

    Attributes:
        name: of the site.
        value: nats, of shape ``plates + coordinates``, neither scaled nor masked.
        num_dims: how many of its last dimensions are coordinates; 0 if the site is one group.
        scale: of the site, a number or a tensor of the plates' shape.
        mask: of the site, or None.
        local: whether the site is in a plate.
    """

    name: str
    value: Tensor
    num_dims: int
    scale: Any
    mask: Any
    local: bool

    def weights(self) -> Tensor:
        """Return what each element of the plates counts, of the plates' shape."""
        plates = self.value.shape[: self.value.dim() - self.num_dims]
        weights = self.value.detach().new_ones(plates) * self.scale
        if self.mask is not None:
            weights = weights * self.mask
        found: Tensor = weights.to(self.value.dtype)
        return found

    def by_coordinate(self) -> Tensor:
        """Return the KL of all elements of the plates together, of the coordinates' shape."""
        weights = self.weights()
        # What is masked out may be infinite.
        value = torch.where(
            weights.reshape(weights.shape + (1,) * self.num_dims) == 0, 0.0, self.value
        )
        shape = self.value.shape[weights.dim() :]
        return weights.reshape(1, -1).matmul(value.reshape(weights.numel(), -1)).reshape(shape)

    def replaced(self, value: Tensor) -> SiteKL:
        """Return the same of other nats."""
        return replace(self, value=value)

    def total(self) -> Tensor:
        """Return the KL of the site, scaled and masked."""
        return self.by_coordinate().sum()

    def count(self) -> Tensor:
        """Return how many elements of the plates it stands for."""
        return self.weights().sum()


def site_kls(model_trace: Any, guide_trace: Any, needed_by: str) -> tuple[list[SiteKL], Any]:
    r"""Return the KL of each latent site, and log q of helpers that belong to no one site.

    In closed form where there is one and the draws on which the prior depends come first in the
    guide as well; else :math:`\log q(z) - \log p(z)` at the draw.

    Args:
        model_trace: a run of the model on the guide's draws.
        guide_trace: the run of the guide.
        needed_by: what messages say wants this.

    Raises:
        SiteMismatchError: if the guide lacks a latent of the model.
        ArgumentError: for a guide whose draws have no gradient.
    """
    latents, drawn = latent_sites(model_trace), latent_sites(guide_trace)
    if not set(latents) <= set(drawn):
        check_sites(model_trace, guide_trace)
        raise ArgumentError(
            f"the sites {sorted(set(latents) - set(drawn))} are to be summed out, which "
            f"{needed_by} cannot do: use elbo=TraceEnum_ELBO(), or 'beta' or 'annealed' of it, or "
            "sum them out in the model, e.g. by dist.MixtureSameFamily"
        )
    check_reparametrised(drawn, needed_by)
    names, order, used, found = list(latents), list(drawn), set(latents), []
    for place, name in enumerate(names):
        ordered = set(names[:place]) <= set(order[: order.index(name)])
        helper = _upstream.unconstrained_site(guide_trace, name)
        if helper is not None:
            used.add(helper["name"])
        found.append(_site_kl(latents[name], drawn[name], helper, closed=ordered))
    rest = [name for name in order if name not in used]
    guide_trace.compute_log_prob(lambda name, site: name in rest)
    return found, sum(guide_trace.nodes[name]["log_prob_sum"] for name in rest)


def check_reparametrised(sites: dict[str, Any], needed_by: str) -> None:
    """Raise unless all draws have gradients with respect to what they are drawn from."""
    for name, site in sites.items():
        if not site["fn"].has_rsample:
            kind = type(unwrapped(site["fn"])[0]).__name__
            raise ArgumentError(
                f"the guide draws the site {name!r} from a {kind}, which cannot be reparametrised, "
                f"as {needed_by} needs it: use 'beta' or 'annealed', which take any Pyro ELBO, or "
                "sum the site out in the model"
            )


def unwrapped(distribution: Any) -> tuple[Any, int]:
    """Return what is below declared event dimensions, and how many were declared."""
    dims = 0
    while isinstance(distribution, Independent):
        dims += distribution.reinterpreted_batch_ndims
        distribution = distribution.base_dist
    return distribution, dims


def is_local(site: Any) -> bool:
    """Tell whether a site is in a plate, that of the particles aside."""
    frames = site["cond_indep_stack"]
    return any(frame.vectorized and frame.name != PARTICLES for frame in frames)


def _site_kl(site: Any, drawn: Any, helper: Any, *, closed: bool) -> SiteKL:
    fn, prior, value, extra = drawn["fn"], site["fn"], drawn["value"], None
    if helper is not None and _is_real(prior.support):
        fn = helper["fn"]  # the map to the support is the identity
    elif helper is not None:
        extra = helper
    base, dims = unwrapped(fn)
    below, other = unwrapped(prior)
    kept = min(dims, other) if extra is None and fn.event_shape == prior.event_shape else 0
    q, p = _to_event(base, dims - kept), _to_event(below, other - kept)
    kl: Any = NotImplemented
    if closed and extra is None and not isinstance(base, dist.Delta):
        try:
            kl = kl_divergence(q, p)
        except NotImplementedError:
            kl = NotImplemented
    if kl is NotImplemented:
        kl = q.log_prob(value) - p.log_prob(value)
        if extra is not None:
            kl = kl + extra["fn"].log_prob(extra["value"])
    kl = kl.expand(fn.batch_shape + fn.event_shape[:kept])
    return SiteKL(site["name"], kl, kept, drawn["scale"], drawn["mask"], is_local(drawn))


def _to_event(distribution: Any, dims: int) -> Any:
    return distribution.to_event(dims) if dims else distribution


def _is_real(support: Any) -> bool:
    while isinstance(support, independent):
        support = support.base_constraint
    return support is real
