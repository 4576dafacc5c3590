# SPDX-License-Identifier: Apache-2.0
"""How far apart the data of many pairs of settings are, side by side where the model allows it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.diagnostics.witness.divergence import closed_form, draw_both, from_draws
from pyro_idvae.diagnostics.witness.settings import Settings

TOLERANCE = 1e-5
"""Relative: pairs side by side and alone agree this well in single precision."""


class Measured(NamedTuple):
    """What is to be said of one pair, in nats."""

    distance: float
    """J of the observed sites."""
    standard_error: float
    """Of J; 0 where all have closed forms."""
    prior_distance: float
    """J of the latents' priors, each given the other latents: 0 where none depends on another."""
    log_ratio: float
    """log p(x|θ) − log p(x|θ′), at the data."""


class Distances:
    r"""J = KL(p ‖ p′) + KL(p′ ‖ p) of the observed sites' distributions at pairs of settings.

    Summed over sites and rows. Sites without a closed form are compared at draws, which the caller
    makes anew from time to time. Observed sites that depend on the values of other observed ones
    are compared given the data.

    Args:
        settings: the latents.
        pairs: points to try out, of shape ``(2, pairs, dim)``, the first two not alike.

    Attributes:
        sampled: the observed sites without a closed form.
        side_by_side: whether pairs are evaluated in one run of the model.
    """

    def __init__(self, settings: Settings, pairs: Tensor) -> None:
        self.settings = settings
        p, q = (settings.run(point)[0] for point in pairs[:, 0])
        self.sampled = list(draws_of(settings.bound.observed, p, q, 1))
        self.side_by_side = self._agree(pairs[:, :2])

    def _agree(self, pairs: Tensor) -> bool:
        """Tell whether two pairs have, side by side, the distances they have alone."""
        drawn = self.draw(pairs, 2)
        self.side_by_side = False
        alone = self(pairs, drawn)
        self.side_by_side = True
        try:
            together = self(pairs, drawn)
        except (RuntimeError, ValueError, IndexError, NotImplementedError):
            return False
        return all(
            torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
            for a, b in zip(alone, together, strict=True)
        )

    @torch.no_grad()
    def draw(self, pairs: Tensor, count: int) -> dict[str, Tensor]:
        """Return draws of data at pairs, by site, of shape ``(pairs, 2, count) + site shape``."""
        if not self.sampled:
            return {}
        each = []
        for pair in pairs.unbind(1):
            p, q = (self.settings.run(point)[0] for point in pair)
            drawn = {name: (p.nodes[name]["fn"], q.nodes[name]["fn"]) for name in self.sampled}
            each.append({name: draw_both(*fns, count) for name, fns in drawn.items()})
        return {name: torch.stack([drawn[name] for drawn in each]) for name in self.sampled}

    def __call__(self, pairs: Tensor, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return J of pairs, of shape ``(pairs,)``, and the log priors, of ``(2, pairs)``."""
        if self.side_by_side:
            with warnings.catch_warnings():
                # Of operations that are batched by a loop: slow ones, and right.
                warnings.simplefilter("ignore", UserWarning)
                return torch.vmap(self.of_pair, (1, 0), (0, 1))(pairs, dict(drawn))
        each = [
            self.of_pair(pair, {name: draws[i] for name, draws in drawn.items()})
            for i, pair in enumerate(pairs.unbind(1))
        ]
        return torch.stack([one for one, _ in each]), torch.stack([two for _, two in each], 1)

    def of_pair(self, pair: Tensor, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return J of one pair, and the two log priors."""
        (p, first), (q, second) = map(self.settings.run, pair.unbind(0))
        terms = between(self.settings.bound.observed, p, q, drawn)
        return terms.mean(), torch.stack([first, second])

    @torch.no_grad()
    def measured(self, pair: Tensor, count: int) -> Measured:
        """Return what is to be said of one pair, by fresh draws."""
        bound = self.settings.bound
        p, q = (self.settings.run(point)[0] for point in pair)
        terms = between(bound.observed, p, q, draws_of(bound.observed, p, q, count))
        error = (terms.var(-1).sum() / count).sqrt() / 2 if terms.dim() else terms.new_zeros(())
        prior = between(bound.latents, p, q, draws_of(bound.latents, p, q, count)).mean()
        ratio = _log_likelihood(bound.observed, p) - _log_likelihood(bound.observed, q)
        return Measured(terms.mean().item(), error.item(), prior.item(), ratio.item())


def draws_of(names: Sequence[str], p: Any, q: Any, count: int) -> dict[str, Tensor]:
    """Return draws of the sites without a closed form, by both runs."""
    pairs = {name: (p.nodes[name]["fn"], q.nodes[name]["fn"]) for name in names}
    return {n: draw_both(*pair, count) for n, pair in pairs.items() if closed_form(*pair) is None}


def between(names: Sequence[str], p: Any, q: Any, drawn: Mapping[str, Tensor]) -> Tensor:
    """Return J of the sites in two runs: a number, or terms of shape ``(2, draws)``, to average."""
    total = torch.zeros(())
    for name in names:
        site, fn, other = p.nodes[name], p.nodes[name]["fn"], q.nodes[name]["fn"]
        kept = 2 if name in drawn else 0
        term: Any = from_draws(fn, other, drawn[name]) if kept else closed_form(fn, other)
        if site["mask"] is not None:
            term = torch.where(torch.as_tensor(site["mask"]), term, 0.0)
        total = total + (term.flatten(kept).sum(-1) if term.dim() > kept else term)
    return total


def _log_likelihood(names: Sequence[str], run: Any) -> Tensor:
    run.compute_log_prob(site_filter=lambda name, _: name in names)
    return torch.stack([_upstream.site_log_prob(run.nodes[name]).sum() for name in names]).sum()
