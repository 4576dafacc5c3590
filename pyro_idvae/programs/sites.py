# SPDX-License-Identifier: Apache-2.0
"""The sample sites of a trace, sorted by what they are."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError, SiteMismatchError


def latent_sites(trace: Any) -> dict[str, Any]:
    """Return the unobserved sample sites of a trace, subsampling left out."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and not _upstream.is_subsampling(site)
    }


def observed_sites(trace: Any) -> dict[str, Any]:
    """Return the observed sample sites of a trace; deterministic and factor sites left out."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and site["is_observed"]
        and not _upstream.is_subsampling(site)
        and not _upstream.is_deterministic(site)
        and not isinstance(site["fn"], dist.Unit)
    }


def factor_sites(trace: Any) -> dict[str, Any]:
    """Return the sites of ``pyro.factor``: densities of nothing observed."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and isinstance(unwrap_masks(site["fn"]), dist.Unit)
    }


def enumerable_sites(trace: Any) -> list[str]:
    """Return the names of the discrete latent sites whose values can be listed."""
    return [
        name
        for name, site in latent_sites(trace).items()
        if site["fn"].has_enumerate_support and site["fn"].support.is_discrete
    ]


def check_sampled(trace: Any, latents: list[str]) -> None:
    """Raise for latents that have no posterior density to sample from.

    - What ``obs_mask`` leaves behind: its density is improper where there is an observation.
    - Scaled densities: their posterior is another one, and no divergence would mean what it says.
    - Discrete latents that cannot be summed out.

    Args:
        trace: a run of the model.
        latents: the sites to sample; those that are summed out are not among them.
    """
    scaled = [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not _upstream.is_subsampling(site)
        and not (isinstance(site["scale"], (int, float)) and site["scale"] == 1.0)
    ]
    if scaled:
        raise ArgumentError(
            f"the densities of the sites {scaled} are scaled: their posterior is a tempered one; "
            "take poutine.scale out of the model"
        )
    masked = [name for name in latents if _upstream.is_left_by_obs_mask(name, trace)]
    if masked:
        raise ArgumentError(
            f"the sites {masked} come from obs_mask, and are improper where something is observed: "
            "mask the distribution instead, by .mask(present), with any value where nothing is"
        )
    discrete = [name for name in latents if trace.nodes[name]["fn"].support.is_discrete]
    if discrete:
        raise ArgumentError(
            f"the latent sites {discrete} are discrete, and rows share them or their values cannot "
            "be listed: sum them out in the model, e.g. by dist.MixtureSameFamily for observations"
        )


def check_sites(model_trace: Any, guide_trace: Any) -> None:
    """Raise unless the guide has exactly the model's latent sites, with values of their shapes.

    Discrete sites that are to be enumerated need none, and auxiliary guide sites are free.
    """
    seen = list(observed_sites(guide_trace))
    if seen and not (observed_sites(model_trace) or factor_sites(model_trace)):
        raise SiteMismatchError(
            f"the guide has the observed sites {seen} and the model has none: they were exchanged; "
            "the model comes first"
        )
    wanted = {
        name
        for name, site in latent_sites(model_trace).items()
        if not site["infer"].get("enumerate")
    }
    enumerated = set(latent_sites(model_trace)) - wanted
    found = {
        name for name, site in latent_sites(guide_trace).items() if not _upstream.is_auxiliary(site)
    }
    missing, extra = sorted(wanted - found), sorted(found - wanted - enumerated)
    if missing or extra:
        raise SiteMismatchError(
            f"the guide has the latent sites {sorted(found)} but the model has {sorted(wanted)}: "
            + (f"the guide lacks {missing}" if missing else "")
            + (" and " if missing and extra else "")
            + (f"the model lacks {extra}" if extra else "")
            + "; give both the same names, or mark helpers with infer={'is_auxiliary': True}"
            + _hint([n for n in missing if model_trace.nodes[n]["fn"].has_enumerate_support])
        )
    for name in sorted(wanted & found):
        site = model_trace.nodes[name]
        own, drawn = site["fn"].batch_shape + site["fn"].event_shape, site["value"].shape
        event_dim, other = site["fn"].event_dim, guide_trace.nodes[name]["fn"].event_dim
        if event_dim != other:
            raise SiteMismatchError(
                f"the site {name!r} has {event_dim} event dimensions in the model and {other} in "
                "the guide: declare the same by .to_event"
            )
        if without_ones(own) != without_ones(drawn):
            raise SiteMismatchError(
                f"the guide draws the site {name!r} with shape {tuple(drawn)}, but in the model it "
                f"has shape {tuple(own)}: give both the same plates and event dimensions, and the "
                "data one row a data point"
            )


def without_ones(shape: Any) -> tuple[int, ...]:
    """Return a shape without leading dimensions of size 1."""
    sizes = tuple(shape)
    while sizes and sizes[0] == 1:
        sizes = sizes[1:]
    return sizes


def _hint(discrete: list[str]) -> str:
    if not discrete:
        return ""
    return f", and {discrete} with infer={{'enumerate': 'parallel'}} to sum them out"


def unwrap_events(distribution: Any) -> Any:
    """Return the distribution below declared event dimensions and plate expansions."""
    while isinstance(distribution, (dist.Independent, dist.ExpandedDistribution)):
        distribution = distribution.base_dist
    return distribution


def unwrap_masks(distribution: Any) -> Any:
    """Return the distribution below event dimensions, expansions and masks."""
    distribution = unwrap_events(distribution)
    while isinstance(distribution, dist.MaskedDistribution):
        distribution = unwrap_events(distribution.base_dist)
    return distribution


def frames_of(site: Any) -> Any:
    """Return the plates around a sample site; none of another node."""
    return site["cond_indep_stack"] if site["type"] == "sample" else ()
