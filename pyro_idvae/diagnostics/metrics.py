# SPDX-License-Identifier: Apache-2.0
"""First numbers to look at: KL to the prior by dimension, active units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae import _upstream
from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.dependence import guide_dependences, prior_dependences
from pyro_idvae.programs.door import open_pair
from pyro_idvae.programs.run import Program, dry_run
from pyro_idvae.programs.sites import unwrap_masks
from pyro_idvae.programs.unchanged import unchanged


def _site_name(bound: BoundModel, site: str | None) -> str:
    if site is None and len(bound.latents) == 1:
        return bound.latents[0]
    if site not in bound.latents:
        raise ArgumentError(f"site={site!r}: expected one of the latent sites {bound.latents}")
    return site


def _normal_marginals(trace: Any, name: str) -> tuple[Tensor, Tensor] | None:
    """Return means and standard deviations of a site's coordinates if they are Normal."""
    base = unwrap_masks(trace.nodes[name]["fn"])
    helper = _upstream.unconstrained_site(trace, name)
    if isinstance(base, dist.Delta) and helper is not None:
        # An AutoNormal guide: Normal on the unconstrained scale, which for real sites is the site.
        base = unwrap_masks(helper["fn"])
    shape = trace.nodes[name]["value"].shape
    if isinstance(base, dist.Normal):
        return base.loc.expand(shape), base.scale.expand(shape)
    if isinstance(base, dist.MultivariateNormal):
        return base.loc.expand(shape), base.variance.sqrt().expand(shape)
    return None


def _marginals(bound: BoundModel, name: str) -> tuple[Any, Any, int]:
    """Return Normal marginals of guide and prior (None if not Normal) and the data dimension.

    A site whose parameters move with the other latents has conditionals, no marginals.
    """
    others = sorted(guide_dependences(bound)[name])
    if not bound.depends_on_summed(name):
        others = sorted({*others, *prior_dependences(bound)[name]})
    if others:
        raise NoCertificateError(
            f"the site {name!r} depends on other latents, {others}: its distribution in guide or "
            "model is a conditional one, and its marginal has no closed form; use collapse_report"
        )
    again = dry_run(bound.model, bound.guide, bound.arguments)
    posterior, prior = (
        _normal_marginals(trace, name) for trace in (bound.guide_trace, bound.trace)
    )
    redrawn = [_normal_marginals(trace, name) for trace in reversed(again)]
    if bound.depends_on_summed(name):
        prior = redrawn[1] = None
    for first, second in zip((posterior, prior), redrawn, strict=True):
        same = (
            first is None
            or second is None
            or all(
                torch.allclose(a, b, rtol=1e-4, atol=1e-6)
                for a, b in zip(first, second, strict=True)
            )
        )
        if not same:
            raise NoCertificateError(
                f"the site {name!r} depends on noise that is no sample site, such as dropout: its "
                "distribution in guide or model differs from run to run"
            )
    dim = bound.frame_dim(bound.trace.nodes[name])
    if dim is None:
        raise ArgumentError(f"the site {name!r} is not in the data plate: it is one for all rows")
    return posterior, prior, dim - len(bound.trace.nodes[name]["fn"].event_shape)


@left_as_found
@unchanged()
def kl_to_prior(model: Program, guide: Program, data: Any, *, site: str | None = None) -> Tensor:
    r"""Return KL(q(z_k|x) ‖ p(z_k)) for each data point and latent dimension, in nats.

    .. math:: \log\frac{s_0}{s} + \frac{s^2 + (m - m_0)^2}{2 s_0^2} - \frac12

    for Normal marginals of guide and prior, a full-covariance guide included. Each is a lower bound
    of the vector's KL; their sum equals it when guide and prior both factorise.

    Args:
        model: the model.
        guide: its guide.
        data: a Tensor, or a tuple or dict of the model's arguments.
        site: name of the latent site, if there are several.

    Returns:
        A tensor of the site's shape with rows first, ``(rows, latent_dim)`` for a VAE.

    Raises:
        NoCertificateError: if the marginals are not Normal, or conditional on other latents.
        ArgumentError: for a latent outside the data plate.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> idvae.kl_to_prior(vae.model, vae.guide, torch.randn(7, 5)).shape
        torch.Size([7, 2])
    """
    bound = open_pair(model, guide, as_arguments(data))
    name = _site_name(bound, site)
    if bound.depends_on_summed(name):
        raise NoCertificateError(
            f"the site {name!r} depends on the discrete sites {bound.summed}: its prior is a "
            "mixture, and its KL has no closed form; use collapse_report"
        )
    posterior, prior, dim = _marginals(bound, name)
    prior_fn = bound.trace.nodes[name]["fn"]
    if posterior is None or prior is None or not _is_real(prior_fn.support):
        raise NoCertificateError(
            f"the KL of the site {name!r} has no closed form: guide and prior must both be Normal, "
            f"and the prior is a {type(unwrap_masks(prior_fn)).__name__}, the guide "
            f"{'Normal' if posterior is not None else 'not Normal'}"
        )
    (loc, scale), (prior_loc, prior_scale) = posterior, prior
    ratio = (scale.square() + (loc - prior_loc).square()) / (2 * prior_scale.square())
    kl: Tensor = (prior_scale / scale).log() + ratio - 0.5
    return kl.movedim(dim, 0)


def _is_real(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real


@left_as_found
@unchanged()
def active_units(
    model: Program,
    guide: Program,
    data: Any,
    *,
    threshold: float = 0.01,
    num_samples: int = 100,
    site: str | None = None,
) -> Tensor:
    r"""Tell which latent dimensions move with the data: Var_x(E_q[z_k|x]) > threshold.

    Posterior means are exact for Normal guides; for others the mean of draws stands in, and the
    variance that their noise adds is subtracted.

    Args:
        model: the model.
        guide: its guide.
        data: a Tensor, or a tuple or dict of the model's arguments; at least two rows.
        threshold: smallest variance of an active unit.
        num_samples: draws, for guides that are not Normal.
        site: name of the latent site, if there are several.

    Returns:
        A boolean tensor of shape ``(latent_dim,)``.

    Raises:
        ArgumentError: for fewer than two rows, or a latent outside the data plate.
        NoCertificateError: for a latent conditional on others.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> idvae.active_units(vae.model, vae.guide, torch.randn(7, 5)).shape
        torch.Size([2])

    Reference:
        Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016.
    """
    check_real("threshold", threshold, above=0.0)
    bound = open_pair(model, guide, as_arguments(data))
    if bound.rows < 2:
        raise ArgumentError("data has 1 row: active units need the variance over at least two")
    name = _site_name(bound, site)
    check_count("num_samples", num_samples, minimum=2)
    marginals, _, dim = _marginals(bound, name)
    if marginals is not None:
        means: Tensor = marginals[0].movedim(dim, 0)
        return means.var(0) > threshold
    with torch.no_grad(), bound.running():
        mean, squares = _moments(bound.draw_guide()[0][name] for _ in range(num_samples))
    noise = squares.movedim(dim, 0).mean(0) / (num_samples * (num_samples - 1))
    return mean.movedim(dim, 0).var(0) - noise > threshold


def _moments(draws: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean of draws and their sum of squares around it, by Welford's recursion."""
    mean = squares = torch.zeros(())
    for number, draw in enumerate(draws, 1):
        step = draw - mean
        mean = mean + step / number
        squares = squares + step * (draw - mean)
    return mean, squares
