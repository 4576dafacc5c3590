# SPDX-License-Identifier: Apache-2.0
"""Draws as ArviZ data: the groups that diagnostics and plots read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.arviz_io import Variable, to_arviz
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.infer.draws import Draws, draw_guide, evaluated, predictive, shape_of
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.run import Program

Groups = dict[str, dict[str, Variable]]


def _array(value: Tensor) -> np.ndarray[Any, Any]:
    return value.detach().cpu().numpy()


def _variables(bound: BoundModel, values: Values, prefix: str = "") -> dict[str, Variable]:
    """Return site values of shape (chain, draw, ...) with named dimensions."""
    return {f"{prefix}{n}": Variable(_array(v), bound.dims(n)) for n, v in values.items()}


def _densities(bound: BoundModel, values: Values, prefix: str = "") -> dict[str, Variable]:
    """Return log densities of shape (chain, draw) or (chain, draw, data)."""
    return {
        f"{prefix}{n}": Variable(_array(v), (bound.data_dim,) * (v.dim() - 2))
        for n, v in values.items()
    }


def _summaries(bound: BoundModel, draws: Draws) -> dict[str, Variable]:
    """Return what is known of all draws of a latent together: chains' masses, limits."""
    found: dict[str, Variable] = {}
    row = (bound.data_dim,)
    if draws.mass is not None:
        found["chain_mass"] = Variable(_array(draws.mass.mass), row, ("chain",))
        found["chain_mass_size"] = Variable(_array(draws.mass.size), row, ())
    if draws.limits is None:
        return found
    for name, moments in draws.limits.sites.items():
        for field, values in moments._asdict().items():
            found[f"limit_{field}_{name}"] = Variable(values, bound.dims(name), ())
    for part in draws.limits.directions:
        scope = "row" if part.local else "all"
        own = (f"direction_{scope}",)
        found[f"loadings_{scope}"] = Variable(part.loadings, (*own, f"coordinate_{scope}"), ())
        for field, values in part.moments._asdict().items():
            dims = (*own, *row) if part.local else own
            array = values if part.local else values[:, 0]
            found[f"limit_{field}_{own[0]}"] = Variable(array, dims, ())
    return found


def _coordinate_labels(draws: Draws) -> dict[str, list[str]]:
    """Return what to call the coordinates that directions are made of."""
    if draws.limits is None:
        return {}
    return {
        f"coordinate_{'row' if part.local else 'all'}": list(part.labels)
        for part in draws.limits.directions
    }


def _prior_groups(bound: BoundModel, draws: Draws) -> Groups:
    if draws.prior is None:
        return {}
    values, likelihood = (
        {name: value.unsqueeze(0) for name, value in part.items()} for part in draws.prior
    )
    return {
        "prior": _variables(bound, values),
        "sample_stats_prior": _densities(bound, likelihood, "log_likelihood_"),
    }


def to_groups(
    bound: BoundModel,
    draws: Draws,
    *,
    new_observations: Values | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """Return ArviZ data of posterior draws; the groups of :func:`from_guide`.

    Args:
        bound: the model the draws are of.
        draws: the draws.
        new_observations: draws of the posterior predictive.
        coords: labels of dimensions.
    """
    observed = {name: bound.trace.nodes[name]["value"] for name in bound.observed}
    groups: Groups = {
        "posterior": _variables(bound, draws.values),
        "log_likelihood": _densities(bound, draws.log_likelihood),
        "log_prior": _densities(bound, draws.log_prior),
        "sample_stats": {
            **_densities(bound, draws.stats),
            **_variables(bound, draws.normal_scores, "prior_score_"),
            **_summaries(bound, draws),
        },
        **_prior_groups(bound, draws),
        "observed_data": _variables(bound, observed),
    }
    if new_observations is not None:
        groups["posterior_predictive"] = _variables(bound, new_observations)
    labels, dim = coords or {}, bound.data_dim
    if dim in labels and len(labels[dim]) != bound.rows:
        raise ShapeError(
            f"coords[{dim!r}] has {len(labels[dim])} labels but data has {bound.rows} rows"
        )
    attrs = {
        "inference_library": "pyro",
        "inference_library_version": pyro.__version__,
        "inference_method": draws.method,
        # netCDF has no booleans.
        "independent_draws": int(draws.independent),
        "data_dim": dim,
    }
    return to_arviz(groups, coords={**_coordinate_labels(draws), **labels}, attrs=attrs)


def finished(
    bound: BoundModel,
    draws: Draws,
    *,
    num_prior_samples: int | None,
    num_limit_draws: int | None,
    posterior_predictive: bool,
    coords: Mapping[str, Sequence[Any]] | None,
) -> Any:
    """Return ArviZ data of draws, with draws from the prior and, if wanted, new observations.

    Args:
        bound: the model the draws are of.
        draws: the draws.
        num_prior_samples: draws from the prior; as many as draws in a chain if None.
        num_limit_draws: draws to bound the marginals by; see :func:`from_mcmc`.
        posterior_predictive: whether to draw new observations.
        coords: labels of dimensions.
    """
    if num_limit_draws is not None:
        check_count("num_limit_draws", num_limit_draws, minimum=0)
    count = draws.shape[1] if num_prior_samples is None else num_prior_samples
    with_prior = draws.with_prior(bound, check_count("num_prior_samples", count))
    with_prior = with_prior.with_limits(bound, num_limit_draws)
    new = predictive(bound, draws.values) if posterior_predictive else None
    return to_groups(bound, with_prior, new_observations=new, coords=coords)


def from_guide(
    model: Program,
    guide: Program,
    data: Any,
    *,
    num_samples: int = 500,
    num_prior_samples: int | None = None,
    posterior_predictive: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """Draw from a guide and return ArviZ data.

    Draws are independent: there is one chain, and R-hat has no meaning. Groups: ``posterior``,
    ``prior``; ``log_likelihood`` and ``log_prior`` at posterior draws, per data point, by site;
    ``sample_stats`` with ``log_q``, the guide's log density (per data point if the guide
    factorises over the data plate) and ``prior_score_<site>``, the latent on the scale on which its
    prior is N(0, 1), for priors with known marginals, and ``limit_mean_<site>`` (also ``variance``
    and ``size``), KL(q ‖ p) of each coordinate by the guide's own density; ``sample_stats_prior``
    with
    ``log_likelihood_<site>`` at prior draws; ``observed_data``; and ``posterior_predictive`` on
    request. Densities are in nats.

    Args:
        model: the model, any callable.
        guide: the guide, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments.
        num_samples: draws from the guide.
        num_prior_samples: draws from the prior; ``num_samples`` by default.
        posterior_predictive: whether to draw new observations.
        coords: labels, e.g. ``{"data": names}``.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        SiteMismatchError: if the guide's sites are not the model's.
        ArgumentError: for a discrete latent that rows share and the guide does not sample.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=10)
        >>> draws["posterior"]["latent"].shape
        (1, 10, 3, 2)
    """
    check_count("num_samples", num_samples)
    bound = BoundModel(model, guide, as_arguments(data))
    return finished(
        bound,
        draw_guide(bound, num_samples),
        num_prior_samples=num_prior_samples,
        num_limit_draws=None,
        posterior_predictive=posterior_predictive,
        coords=coords,
    )


def from_mcmc(
    samples: Any,
    model: Program,
    data: Any,
    *,
    sample_stats: Mapping[str, Tensor] | None = None,
    num_prior_samples: int | None = None,
    num_limit_draws: int | None = None,
    posterior_predictive: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
    inference_method: str = "mcmc",
) -> Any:
    """Return posterior draws as ArviZ data, with the groups of :func:`from_guide`.

    Args:
        samples: a ``pyro.infer.MCMC`` object that has run, or a dict from site names to draws of
            shape ``(chain, draw) + site shape``.
        model: the model the draws are of.
        data: the data it was run on.
        sample_stats: further statistics of shape ``(chain, draw)``, e.g. ``energy``.
        num_prior_samples: draws from the prior; by default as many as draws in a chain.
        num_limit_draws: draws, of all chains together, in which each latent is replaced by a prior
            draw: what the likelihood then loses bounds what its marginal knows
            (``sample_stats/limit_mean_<site>``), and without it no latent can be called collapsed
            by itself. 0 for none; by default as many as cost a fifth of the sampling.
        posterior_predictive: whether to draw new observations.
        coords: labels, e.g. ``{"data": names}``.
        inference_method: written to the attributes.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        ArgumentError: if a latent site of the model has no draws, or draws of another shape.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> import pyro_idvae as idvae
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> draws = idvae.from_mcmc({"z": torch.randn(2, 10, 3)}, model, torch.zeros(3))
        >>> draws["log_likelihood"]["x"].shape
        (2, 10, 3)
    """
    stats = dict(sample_stats or {})
    if not isinstance(samples, Mapping):
        values = samples.get_samples(group_by_chain=True)
        stats.setdefault("diverging", _divergences(samples, shape_of(values)))
    else:
        values = dict(samples)
    bound = BoundModel(model, None, as_arguments(data), drawn=list(values))
    missing = sorted(set(bound.latents) - set(values))
    if missing:
        raise ArgumentError(f"samples lack the latent sites {missing} of the model")
    values = {name: values[name] for name in bound.latents}
    for name, value in values.items():
        wanted = bound.trace.nodes[name]["value"].shape
        if value.shape[2:] != wanted:
            raise ShapeError(
                f"samples[{name!r}] has shape {tuple(value.shape)}: expected (chain, draw) + "
                f"{tuple(wanted)}"
            )
    return finished(
        bound,
        evaluated(bound, values, stats, independent=False, method=inference_method),
        num_prior_samples=num_prior_samples,
        num_limit_draws=num_limit_draws,
        posterior_predictive=posterior_predictive,
        coords=coords,
    )


def _divergences(mcmc: Any, shape: tuple[int, int]) -> Tensor:
    diverging = torch.zeros(shape, dtype=torch.bool)
    found = mcmc.diagnostics().get("divergences", {})
    for chain in range(shape[0]):
        diverging[chain, list(found.get(f"chain {chain}", []))] = True
    return diverging
