# SPDX-License-Identifier: Apache-2.0
"""What proposals are made of, for all rows of the data."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.infer.laplace.log_joint import LogJoint, injective_call, inverse
from pyro_idvae.infer.rowwise.annealing.modes import Modes, distinct, single
from pyro_idvae.infer.rowwise.annealing.proposals import (
    GuideProposal,
    NormalProposal,
    PriorProposal,
    Proposal,
)
from pyro_idvae.infer.rowwise.gradients import RowGradient, row_gradient
from pyro_idvae.infer.rowwise.starts import climbed, curvature_covariance
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.guide_density import check_spread
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.side_by_side import guide_draws
from pyro_idvae.programs.sites import latent_sites

NUM_DRAWS = 400
"""Of a proposal, for its moments."""
WIDEST = 1.5
"""Of a Laplace approximation, in standard deviations of the prior."""
NUM_SEARCHES = 4
"""Of modes in closed form."""
SEARCH_STEPS = 60
"""Of Adam, towards the modes of a likelihood that has no closed form of them."""


class Begin(NamedTuple):
    """Where the particles of some data points begin."""

    proposal: Proposal
    covariance: Tensor
    """Of the proposal, of shape ``(data, K, K)``; where it has several modes, within these."""
    known: bool = False
    """Whether the posterior has this covariance, too."""


class Source(Protocol):
    """Proposals for any rows of the data."""

    words: str

    def on(self, density: RowDensity, index: Tensor, chains: int) -> Begin:
        """Return the proposal of data points ``index``, each ``chains`` times."""


class NormalSource:
    """Mixtures of Normals that are known beforehand.

    Args:
        modes: of all rows.
        words: what they are.
        known: whether the posterior has their covariances, too.
    """

    def __init__(self, modes: Modes, *, words: str, known: bool) -> None:
        self.modes, self.words, self.known = modes, words, known

    def on(self, density: RowDensity, index: Tensor, chains: int) -> Begin:
        """Return the proposal of some data points."""
        index = index.to(self.modes.loc.device)
        return _normal(Modes(*(part[index] for part in self.modes)), chains, known=self.known)


class ClosedSource:
    """Laplace approximations of an injective likelihood, in closed form at each mode found.

    One search begins at the left inverse of the data, the others at draws of the prior.
    """

    words = "closed-form Laplace approximations"

    def on(self, density: RowDensity, index: Tensor, chains: int) -> Begin:
        """Return the proposal of some data points."""
        bound = density.bound
        joint = LogJoint.of(injective_call(bound.on_rows(index)))
        first = joint.mode()
        starts = [torch.randn_like(first) for _ in range(NUM_SEARCHES - 1)]
        places = torch.stack([first, *(joint.mode(start=start) for start in starts)])
        height = torch.stack([joint.log_joint(place) for place in places])
        covariance = torch.stack([inverse(joint.precision(place)) for place in places])
        return _normal(distinct(places, height, covariance), chains)


class SearchedSource:
    """Laplace approximations at the modes that searches from the prior find, by differences."""

    words = "Laplace approximations at modes that were searched"

    def __init__(self) -> None:
        self.first: RowGradient | None = None

    def on(self, density: RowDensity, index: Tensor, chains: int) -> Begin:
        """Return the proposal of some data points."""
        if self.first is None:
            self.first = target = row_gradient(density)
        else:
            target = self.first.on(density)
        modes = climbed(target, num_steps=SEARCH_STEPS)
        covariance = curvature_covariance(target, modes)
        # Where the curvature is slight the tails are not its: the prior's scale is a limit.
        limit = WIDEST * density.example().std(0)
        excess = (limit / covariance.diagonal(dim1=-2, dim2=-1).sqrt()).clamp_max(1.0)
        covariance = excess.unsqueeze(-1) * covariance * excess.unsqueeze(-2)
        shape = (chains, len(index))
        found = distinct(
            modes.unflatten(0, shape),
            target(modes)[0].reshape(shape),
            covariance.unflatten(0, shape),
        )
        return _normal(found, chains)


class PriorSource:
    """The model's prior."""

    words = "the prior"

    def on(self, density: RowDensity, index: Tensor, chains: int) -> Begin:
        """Return the proposal of some data points."""
        proposal = PriorProposal(density)
        return Begin(proposal, _covariance(proposal, chains))


class GuideSource:
    """The guide itself.

    Args:
        pair: model and guide.
    """

    words = "the guide"

    def __init__(self, pair: BoundModel) -> None:
        self.pair = pair

    def on(self, density: RowDensity, index: Tensor, chains: int) -> Begin:
        """Return the proposal of some data points."""
        proposal = GuideProposal(self.pair, density)
        return Begin(proposal, _covariance(proposal, chains))


@torch.no_grad()
def source_of(bound: BoundModel, pair: BoundModel | None, kind: str) -> Source:
    """Return what proposals are made of.

    Args:
        bound: the model on its data.
        pair: model and guide; None without one.
        kind: ``"guide"``, ``"laplace"`` or ``"prior"``.

    Raises:
        ArgumentError: for a guide that is a point, or none where one is wanted.
    """
    if kind == "prior":
        return PriorSource()
    if kind == "laplace":
        try:
            joint = LogJoint.of(injective_call(bound))
            joint.precision(joint.start())
        except NoCertificateError:
            return SearchedSource()
        return ClosedSource()
    if pair is None:
        raise ArgumentError("proposal='guide' needs a guide: pass one, or proposal='laplace'")
    check_spread(pair)
    return GuideSource(pair) if _has_row_density(bound, pair) else _moments(bound, pair)


def _has_row_density(bound: BoundModel, pair: BoundModel) -> bool:
    """Tell whether the guide's density can be had of any rows, at any latents."""
    sites = latent_sites(pair.guide_trace)
    if pair.latents != bound.latents or set(sites) != set(pair.latents):
        return False
    if any(pair.frame_dim(site) is None for site in sites.values()):
        return False
    try:
        check_amortised(pair.model, pair.guide, pair.arguments)
    except ArgumentError:
        return False
    return True


def _moments(bound: BoundModel, pair: BoundModel) -> NormalSource:
    """Return Normals of the moments of the guide's draws."""
    drawn, _ = guide_draws(pair, NUM_DRAWS)
    u = RowDensity(bound).flatten({name: drawn[name] for name in bound.latents}, 1)
    covariance = _shrunk(u)
    if not bool((covariance.diagonal(dim1=-2, dim2=-1) > 0).all()):
        raise ArgumentError(
            "the guide draws the same latents again and again: it has no density to begin with; "
            "pass proposal='laplace' or 'prior'"
        )
    return NormalSource(
        single(u.mean(0), covariance),
        words="Normals of the guide's means and covariances",
        known=False,
    )


def _covariance(proposal: Proposal, chains: int) -> Tensor:
    """Return the covariance of each data point's draws of a proposal."""
    draws = [proposal.sample() for _ in range(max(2, -(-NUM_DRAWS // chains)))]
    wide = torch.stack(draws)
    return _shrunk(wide.unflatten(1, (chains, -1)).flatten(0, 1))


def _shrunk(u: Tensor) -> Tensor:
    """Return covariances of draws ``(draws, data, K)``; few draws know little of correlations."""
    centred = u - u.mean(0)
    covariance = torch.einsum("sni,snj->nij", centred, centred) / (len(u) - 1)
    keep = len(u) / (len(u) + 2.0 * u.shape[-1])
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    return keep * covariance + (1 - keep) * torch.diag_embed(diagonal)


def _normal(modes: Modes, chains: int, *, known: bool = True) -> Begin:
    return Begin(NormalProposal(modes, chains), modes.within(), known)
