# SPDX-License-Identifier: Apache-2.0
"""Draws as ArviZ data: the groups that diagnostics and plots read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.arviz_io import Variable, to_arviz
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.infer.batches import as_arguments
from pyro_idvae.infer.draws import Draw, Layout, guide_draws, stack
from pyro_idvae.infer.prior_scores import prior_scores
from pyro_idvae.infer.programs import Program

Groups = dict[str, dict[str, Variable]]


def _array(value: Tensor) -> np.ndarray[Any, Any]:
    return value.detach().cpu().numpy()


def _variables(layout: Layout, draws: Draw) -> dict[str, Variable]:
    """Return site values of shape (chain, draw, ...) with named dimensions."""
    return {name: Variable(_array(v), layout.dims(name)) for name, v in draws.items()}


def _densities(layout: Layout, draws: Mapping[str, Tensor]) -> dict[str, Variable]:
    """Return log densities of shape (chain, draw) or (chain, draw, data)."""
    return {n: Variable(_array(v), (layout.data_dim,) * (v.dim() - 2)) for n, v in draws.items()}


def _scores(layout: Layout, draws: Draw) -> dict[str, Variable]:
    """Return latents on the scale of an N(0, 1) prior, under their own names' dimensions."""
    scores = prior_scores(layout, draws)
    return {
        f"prior_score_{name}": Variable(_array(v), layout.dims(name)) for name, v in scores.items()
    }


def _prior_groups(layout: Layout, num_samples: int) -> Groups:
    draws, scores = [], []
    with torch.no_grad(), layout.running():
        for _ in range(num_samples):
            draws.append(layout.draw_prior())
            scores.append(layout.score(draws[-1])[0])
    shape = (1, num_samples)
    likelihood = _unflatten(stack(scores), shape)
    named = {f"log_likelihood_{name}": value for name, value in likelihood.items()}
    return {
        "prior": _variables(layout, _unflatten(stack(draws), shape)),
        "sample_stats_prior": _densities(layout, named),
    }


def _observed(layout: Layout) -> dict[str, Variable]:
    values = {}
    for name in layout.observed:
        value = _array(layout.trace.nodes[name]["value"])
        values[name] = Variable(value, layout.dims(name))
    return values


def _predictive(layout: Layout, draws: Draw) -> dict[str, Variable]:
    with torch.no_grad(), layout.running():
        new = [layout.predict(draw) for draw in _each(draws)]
    return _variables(layout, _unflatten(stack(new), _shape(draws)))


def assemble(
    layout: Layout,
    draws: Draw,
    scores: Sequence[tuple[Draw, Draw]],
    stats: Mapping[str, Tensor],
    *,
    num_prior_samples: int | None,
    posterior_predictive: bool,
    coords: Mapping[str, Sequence[Any]] | None,
    inference_method: str,
) -> Any:
    """Return ArviZ data of posterior draws; the groups of :func:`from_guide`.

    Args:
        layout: where the data plate is.
        draws: latents, of shape ``(chain, draw) + site shape``.
        scores: what ``layout.score`` says of each draw, chain by chain.
        stats: statistics, of shape ``(chain, draw)`` or ``(chain, draw, data)``.
        num_prior_samples: draws from the prior; as many as draws in a chain if None.
        posterior_predictive: whether to draw new observations.
        coords: labels of dimensions.
        inference_method: written to the attributes.
    """
    shape = _shape(draws)
    likelihood, prior = (_unflatten(stack(list(part)), shape) for part in zip(*scores, strict=True))
    num_prior = shape[1] if num_prior_samples is None else num_prior_samples
    groups: Groups = {
        "posterior": _variables(layout, draws),
        "log_likelihood": _densities(layout, likelihood),
        "log_prior": _densities(layout, prior),
        "sample_stats": {**_densities(layout, stats), **_scores(layout, draws)},
        **_prior_groups(layout, check_count("num_prior_samples", num_prior)),
        "observed_data": _observed(layout),
    }
    if posterior_predictive:
        groups["posterior_predictive"] = _predictive(layout, draws)
    labels = coords or {}
    dim = layout.data_dim
    if dim in labels and len(labels[dim]) != layout.rows:
        raise ShapeError(
            f"coords[{dim!r}] has {len(labels[dim])} labels but data has {layout.rows} rows"
        )
    attrs = {
        "inference_library": "pyro",
        "inference_library_version": pyro.__version__,
        "inference_method": inference_method,
    }
    return to_arviz(groups, coords=coords, attrs=attrs)


def score_draws(layout: Layout, draws: Draw) -> list[tuple[Draw, Draw]]:
    """Return what ``layout.score`` says of each draw, chain by chain."""
    with torch.no_grad(), layout.running():
        return [layout.score(draw) for draw in _each(draws)]


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
    prior is N(0, 1), for priors with known marginals; ``sample_stats_prior`` with
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
        ArgumentError: for a model with discrete latents that are to be enumerated.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=10)
        >>> draws["posterior"]["latent"].shape
        (1, 10, 3, 2)
    """
    check_count("num_samples", num_samples)
    layout = Layout(model, guide, as_arguments(data))
    values, log_q, *scores = zip(*guide_draws(layout, num_samples), strict=True)
    return assemble(
        layout,
        _unflatten(stack(list(values)), (1, num_samples)),
        list(zip(*scores, strict=True)),
        {"log_q": torch.stack(log_q).unsqueeze(0)},
        num_prior_samples=num_prior_samples,
        posterior_predictive=posterior_predictive,
        coords=coords,
        inference_method="svi",
    )


def from_mcmc(
    samples: Any,
    model: Program,
    data: Any,
    *,
    sample_stats: Mapping[str, Tensor] | None = None,
    num_prior_samples: int | None = None,
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
        draws = samples.get_samples(group_by_chain=True)
        stats.setdefault("diverging", _divergences(samples, _shape(draws)))
    else:
        draws = dict(samples)
    layout = Layout(model, None, as_arguments(data))
    missing = sorted(set(layout.latents) - set(draws))
    if missing:
        raise ArgumentError(f"samples lack the latent sites {missing} of the model")
    draws = {name: draws[name] for name in layout.latents}
    for name, value in draws.items():
        wanted = layout.trace.nodes[name]["value"].shape
        if value.shape[2:] != wanted:
            raise ShapeError(
                f"samples[{name!r}] has shape {tuple(value.shape)}: expected (chain, draw) + "
                f"{tuple(wanted)}"
            )
    return assemble(
        layout,
        draws,
        score_draws(layout, draws),
        stats,
        num_prior_samples=num_prior_samples,
        posterior_predictive=posterior_predictive,
        coords=coords,
        inference_method=inference_method,
    )


def _shape(draws: Draw) -> tuple[int, int]:
    """Return the numbers of chains and of draws in each."""
    chains, num_samples = next(iter(draws.values())).shape[:2]
    return chains, num_samples


def _each(draws: Draw) -> Iterator[Draw]:
    """Yield one draw after the other, chain by chain."""
    for index in np.ndindex(*_shape(draws)):
        yield {name: value[index] for name, value in draws.items()}


def _unflatten(draws: Draw, shape: tuple[int, int]) -> Draw:
    return {name: value.reshape(*shape, *value.shape[1:]) for name, value in draws.items()}


def _divergences(mcmc: Any, shape: tuple[int, int]) -> Tensor:
    diverging = torch.zeros(shape, dtype=torch.bool)
    found = mcmc.diagnostics().get("divergences", {})
    for chain in range(shape[0]):
        diverging[chain, list(found.get(f"chain {chain}", []))] = True
    return diverging
