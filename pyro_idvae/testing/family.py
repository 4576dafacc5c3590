# SPDX-License-Identifier: Apache-2.0
"""The laws of a family of distributions, as test methods to inherit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_idvae._abstract import may_override, must_write
from pyro_idvae.distributions import Family
from pyro_idvae.errors import NoClosedFormError
from pyro_idvae.testing.checks import copies_of, in_double, mixed_error, parameters_of

STANDARD_ERRORS = 5.0
"""How far a mean over draws may lie from what it estimates; seeds are fixed."""

ROUNDING = 1e-8

DRAWS = 20_000


class FamilyLaws:
    """What every :class:`Family` must obey; subclass it and write :meth:`make`.

    A family without a closed form of its Fisher information or Bhattacharyya distance raises
    :class:`NoClosedFormError`, and the law about that asks no more. Closed forms are compared with
    sums over all outcomes where there are finitely many, and with means over draws elsewhere.

    Example:
        >>> from pyro_idvae.distributions import PoissonFamily
        >>> from pyro_idvae.testing import FamilyLaws
        >>> class TestPoisson(FamilyLaws):
        ...     def make(self):
        ...         return PoissonFamily()
        >>> TestPoisson().test_bhattacharyya_distance()
    """

    data_dim = 3
    """Observed numbers, or categories."""

    total_count: Tensor | None = None
    """What the family takes as ``total_count``, of shape ()."""

    scale = 0.8
    """Standard deviation of the η that are tried."""

    @must_write
    def make(self) -> Family:
        """Return the family under test; called after seeding."""
        raise NotImplementedError

    @may_override
    def make_double(self) -> Family:
        """Return :meth:`make`'s family in double precision."""
        torch.manual_seed(0)
        family: Family = in_double(self.make())
        return family

    @may_override
    def etas(self, family: Family, *batch: int) -> Tensor:
        """Return random η of shape ``batch + (parameter_dim,)``."""
        generator = torch.Generator().manual_seed(1)
        shape = (*batch, family.parameter_dim(self.data_dim))
        return self.scale * torch.randn(shape, generator=generator, dtype=torch.double)

    def distribution(self, family: Family, eta: Tensor) -> Any:
        """Return the family's member as a distribution whose batch is that of η."""
        member = family(eta, self.total_count)
        return member.to_event(1) if family.factorised else member

    def _counts(self) -> tuple[Tensor, ...]:
        """Return ``total_count`` if there is one: families that take none need no such argument."""
        return () if self.total_count is None else (self.total_count,)

    def test_shapes(self) -> None:
        family = self.make_double()
        dim = family.parameter_dim(self.data_dim)
        event = family.event_shape(dim)
        for batch in ((), (1,), (4,), (2, 3)):
            eta = self.etas(family, *batch)
            member = self.distribution(family, eta)
            assert member.batch_shape == batch
            assert member.event_shape == event
            x = member.sample((5,))
            assert x.shape == (5, *batch, *event)
            assert member.log_prob(x).shape == (5, *batch)
            assert bool(family.check_support(x, dim).all())
            assert family.standardize(x, dim).shape == (5, *batch, family.flat_dim(dim))
            assert family.initial_eta(x, dim).shape == (5, *batch, dim)

    def test_what_stands_for_a_missing_value_lies_in_the_support(self) -> None:
        family = self.make_double()
        dim = family.parameter_dim(self.data_dim)
        filled = torch.full((2, *family.event_shape(dim)), family.fill, dtype=torch.double)
        assert bool(family.check_support(filled, dim).all())

    def test_log_density_is_differentiable(self) -> None:
        family = self.make_double()
        eta = self.etas(family, 3)
        x = self.distribution(family, eta).sample()

        def log_prob(eta: Tensor) -> Tensor:
            density: Tensor = self.distribution(family, eta).log_prob(x)
            return density

        assert torch.autograd.gradcheck(log_prob, (eta.requires_grad_(),))

    def test_different_parameters_are_different_distributions(self) -> None:
        """Along every coordinate, along their sum, and along random directions, near and far."""
        family = self.make_double()
        dim = family.parameter_dim(self.data_dim)
        directions = torch.cat(
            [torch.eye(dim), torch.ones(1, dim) / dim**0.5, torch.randn(8, dim)]
        ).double()
        eta = self.etas(family, len(directions))
        for length in (0.05, 1.0):
            here = self.distribution(family, eta)
            there = self.distribution(family, eta + length * directions)
            x = torch.cat([here.sample((200,)), there.sample((200,))])
            gap = (here.log_prob(x) - there.log_prob(x)).detach().abs().amax(0)
            assert bool((gap > ROUNDING).all()), "two η give one distribution"

    def test_fisher_information(self) -> None:
        """E[∇log p ∇log pᵀ], and positive definite: no direction of η goes unnoticed."""
        family = self.make_double()
        for eta in self.etas(family, 3):
            try:
                found = family.fisher_information(eta, self.total_count).detach()
            except NoClosedFormError:
                return
            assert found.shape == (eta.shape if family.factorised else eta.shape * 2)
            wide = family.fisher_information(eta.expand(2, *eta.shape), self.total_count)
            assert mixed_error(wide, found.expand_as(wide)) <= ROUNDING
            x, weights = self._outcomes(family, eta)
            leaf = eta.expand(len(x), -1).clone().requires_grad_()
            log_prob = self.distribution(family, leaf).log_prob(x)
            (score,) = torch.autograd.grad(log_prob.sum(), leaf)
            if family.factorised:
                assert bool((found > 0).all())
                products = score.square()
            else:
                assert bool((torch.linalg.eigvalsh(found) > 0).all())
                products = score.unsqueeze(-1) * score.unsqueeze(-2)
            _agree(found, products, weights)

    def test_information_is_pulled_back(self) -> None:
        """JᵀI(η)J, observed or missing."""
        family = self.make_double()
        eta = self.etas(family, 4)
        torch.manual_seed(5)
        jacobian = torch.randn(*eta.shape, 2, dtype=torch.double)
        try:
            information = family.fisher_information(eta, self.total_count)
        except NoClosedFormError:
            return
        mask = torch.rand(eta.shape if family.factorised else eta.shape[:-1]) > 0.4
        if family.factorised:
            whole, seen = information.diag_embed(), (information * mask).diag_embed()
        else:
            whole, seen = information, information * mask[..., None, None]
        for wanted, own in ((whole, None), (seen, mask)):
            found = family.pulled_information(eta, jacobian, self.total_count, own)
            assert mixed_error(found, jacobian.mT @ wanted @ jacobian) <= ROUNDING

    def test_bhattacharyya_distance(self) -> None:
        """e^(−D) = E√(p′/p); 0 from itself, the same both ways, more than 0 otherwise."""
        family = self.make_double()
        (etas, others), count = self.etas(family, 2, 3), self._counts()
        try:
            distance = family.bhattacharyya(etas, others, *count).detach()
        except NoClosedFormError:
            return
        assert distance.shape == (3,)
        assert bool((distance > 0).all())
        assert mixed_error(family.bhattacharyya(others, etas, *count), distance) <= ROUNDING
        itself = family.bhattacharyya(etas, etas, *count)
        assert mixed_error(itself, torch.zeros_like(itself)) <= ROUNDING
        grid = family.bhattacharyya(etas.unsqueeze(1), others, *count)
        assert grid.shape == (3, 3)
        assert mixed_error(grid.diagonal(), distance) <= ROUNDING
        for eta, other, apart in zip(etas, others, distance, strict=True):
            x, weights = self._outcomes(family, eta)
            ratio = self.distribution(family, other).log_prob(x) - self.distribution(
                family, eta
            ).log_prob(x)
            _agree((-apart).exp(), (0.5 * ratio).exp().detach(), weights)

    def test_least_curvature(self) -> None:
        """D_B ≥ m·‖η − η′‖²/8 inside a ball, at its edge and across it."""
        family = self.make_double()
        centre = self.etas(family)
        torch.manual_seed(4)
        directions = torch.randn(400, len(centre), dtype=torch.double)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        directions[: len(centre)] = torch.eye(len(centre), dtype=torch.double)
        for radius in (0.1, 1.0, 4.0):
            try:
                least = family.least_curvature(centre, radius).detach()
                family.bhattacharyya(centre, centre, *self._counts())
            except NoClosedFormError:
                return
            assert least.shape in ((), centre.shape)
            assert bool((least > 0).all())
            share = torch.rand(400, 1, dtype=torch.double).sqrt()
            ends = torch.cat([centre + radius * directions, centre + radius * share * directions])
            others = torch.cat([centre - radius * directions, ends[:400].roll(1, 0)])
            apart = (least * (ends - others).square()).sum(-1) / 8
            distance = family.bhattacharyya(ends, others, *self._counts()).detach()
            assert bool((distance >= apart * (1 - ROUNDING) - ROUNDING).all())

    def test_initial_eta_is_finite_wherever_data_can_lie(self) -> None:
        family = self.make_double()
        dim = family.parameter_dim(self.data_dim)
        eye = torch.eye(dim, dtype=torch.double)
        extreme = self.distribution(family, torch.cat([8 * eye, -8 * eye, 0 * eye])).sample((20,))
        observed = [extreme.flatten(0, 1)]
        if family.factorised:
            ends = [getattr(family.support, name, 0.0) for name in ("lower_bound", "upper_bound")]
            some = [-1e6, -1.0, 1e-6, 0.5, 1 - 1e-6, 1.0, 1e6, *(float(end) for end in ends)]
            edges = torch.tensor(some, dtype=torch.double).unsqueeze(-1).expand(-1, dim)
            observed.append(edges[family.check_support(edges, dim).all(-1)])
        for x in observed:
            assert len(x) > 0
            assert bool(family.initial_eta(x, dim).isfinite().all())

    def test_initial_eta_is_near_the_data(self) -> None:
        """A mean within one standard deviation of x, where there is one; and a start of its own."""
        family = self.make_double()
        dim = family.parameter_dim(self.data_dim)
        x = self.distribution(family, 2 * self.etas(family, 400)).sample()
        start = family.initial_eta(x, dim).to(torch.double).detach()
        member = self.distribution(family, start)
        if _has_moments(member):
            gap, spread = (member.mean - x).abs().detach(), member.variance.sqrt().detach()
            known = spread.isfinite()
            assert bool((gap[known] <= (1 + ROUNDING) * spread[known] + ROUNDING).all())
        own, foreign = (
            self.distribution(family, eta).log_prob(x).detach() for eta in (start, start.roll(1, 0))
        )
        assert own.mean() > foreign.mean()

    def test_copies_and_pickles(self) -> None:
        family = self.make_double()
        eta = self.etas(family, 4)
        x = self.distribution(family, eta).sample()
        wanted = self.distribution(family, eta).log_prob(x)
        torch.manual_seed(99)
        loaded = in_double(self.make())
        loaded.load_state_dict(family.state_dict())
        for other in (*copies_of(family), loaded):
            assert torch.equal(self.distribution(other, eta).log_prob(x), wanted)

    def test_global_parameters_learn(self) -> None:
        """What is global and learned gets a gradient; a fixed one is in the state."""
        family = self.make_double()
        eta = self.etas(family, 50)
        x = self.distribution(family, eta).sample()
        log_prob = self.distribution(family, eta.requires_grad_()).log_prob(x).sum()
        grads = torch.autograd.grad(log_prob, [eta, *parameters_of(family)])
        assert all(bool(grad.isfinite().all()) for grad in grads)
        assert all(bool(grad.abs().max() > 0) for grad in grads)

    def _outcomes(self, family: Family, eta: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return all outcomes with their probabilities, or draws with None."""
        member = self.distribution(family, eta)
        if member.has_enumerate_support and not family.factorised:
            x = member.enumerate_support()
            return x, member.log_prob(x).exp().detach()
        if family.factorised and member.base_dist.has_enumerate_support:
            values = member.base_dist.enumerate_support(expand=False).flatten()
            if len(values) ** len(eta) <= DRAWS:
                x = torch.cartesian_prod(*[values] * len(eta)).reshape(-1, len(eta))
                return x, member.log_prob(x).exp().detach()
        torch.manual_seed(3)
        return member.sample((DRAWS,)), None


def _has_moments(member: Any) -> bool:
    """Tell whether a distribution knows its mean and variance; that of a category has none."""
    try:
        known = bool(member.mean.isfinite().all()) and member.variance.shape == member.mean.shape
    except NotImplementedError:
        return False
    return known


def _agree(found: Tensor, terms: Tensor, weights: Tensor | None) -> None:
    """Fail unless ``found`` is the weighted sum, or within the error of the plain mean."""
    if weights is not None:
        total = (weights.reshape(-1, *(1,) * (terms.dim() - 1)) * terms).sum(0)
        assert mixed_error(found, total) <= ROUNDING
        return
    error = terms.std(0) / len(terms) ** 0.5
    assert bool(((terms.mean(0) - found).abs() <= STANDARD_ERRORS * error + ROUNDING).all())
