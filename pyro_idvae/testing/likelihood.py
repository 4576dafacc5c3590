# SPDX-License-Identifier: Apache-2.0
"""The laws of a likelihood, injective or not, as test methods to inherit."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.testing.gof import auto_goodness_of_fit, multinomial_goodness_of_fit
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pyro_idvae._abstract import may_override, must_write
from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.testing.checks import check_raises, copies_of
from pyro_idvae.testing.search import lipschitz_search

GOODNESS_OF_FIT = 1e-3
"""Smallest p-value accepted; seeds are fixed."""


class LikelihoodLaws:
    """What every likelihood must obey; subclass it and write :meth:`make`.

    The laws of injectivity speak of those that promise it; the others must refuse to state bounds.

    Give it a small latent dimension and one to three parameters, so that goodness of fit can be
    tested by counting or by nearest neighbours.

    Example:
        >>> from pyro_idvae.distributions import InjectiveNormal
        >>> from pyro_idvae.testing import LikelihoodLaws
        >>> from pyro_idvae.transforms import brenier_injection
        >>> class TestNormal(LikelihoodLaws):
        ...     def make(self):
        ...         return InjectiveNormal(brenier_injection(1, 2, hidden_dims=[8]))
        >>> TestNormal().test_shapes()
    """

    options: dict[str, Any] = {}  # noqa: RUF012
    """Further keyword arguments of ``condition``, of batch shape ()."""

    @must_write
    def make(self) -> Likelihood:
        """Return the likelihood under test; called after seeding."""
        raise NotImplementedError

    @may_override
    def make_double(self) -> Likelihood:
        """Return :meth:`make`'s likelihood in double precision."""
        torch.manual_seed(0)
        return self.make().double()

    @may_override
    def latents(self, likelihood: Likelihood, *batch: int) -> Tensor:
        """Return random z of shape ``batch + (latent_dim,)``."""
        generator = torch.Generator().manual_seed(1)
        shape = (*batch, likelihood.latent_dim)
        return torch.randn(shape, generator=generator, dtype=torch.double)

    def test_shapes(self) -> None:
        likelihood = self.make_double()
        for batch in ((), (1,), (4,), (2, 3)):
            distribution = likelihood.condition(self.latents(likelihood, *batch), **self.options)
            assert distribution.batch_shape == batch
            assert distribution.event_shape == likelihood.event_shape
            x = distribution.sample((5,))
            assert x.shape == (5, *batch, *likelihood.event_shape)
            assert distribution.log_prob(x).shape == (5, *batch)

    def test_samples_fit_the_density(self) -> None:
        likelihood = self.make_double()
        pyro.set_rng_seed(0)
        z = 0.3 * self.latents(likelihood)
        distribution = likelihood.condition(z, **self.options)
        samples = distribution.sample((20000,))
        if not distribution.support.is_discrete:
            probs = distribution.log_prob(samples).exp().detach()
            fit = auto_goodness_of_fit(samples, probs)
        else:
            fit = _fit_of_counts(samples, distribution)
        assert fit > GOODNESS_OF_FIT

    def test_no_two_latents_are_closer_than_the_bound(self) -> None:
        likelihood = self.make_double()
        if not likelihood.identifiable:
            for bounds in (likelihood.lipschitz_bounds, likelihood.information_bounds):
                check_raises(NoCertificateError, "", bounds)
            return
        low, high = likelihood.lipschitz_bounds()
        found_low, found_high = lipschitz_search(likelihood.eta, likelihood.latent_dim)
        assert 0 < low <= found_low * (1 + 1e-8)
        assert found_high <= high * (1 + 1e-8)

    def test_different_latents_have_different_distributions(self) -> None:
        """The closest pair found by search still differs in its log densities."""
        likelihood = self.make_double()
        if not likelihood.identifiable:
            return
        z = self.latents(likelihood, 200)
        other = z + 0.1 * torch.nn.functional.normalize(torch.randn_like(z), dim=-1)
        for _ in range(3):
            here = likelihood.condition(z, **self.options)
            there = likelihood.condition(other, **self.options)
            x = torch.cat([here.sample((50,)), there.sample((50,))])
            gap = (here.log_prob(x) - there.log_prob(x)).detach().abs().amax(0)
            assert bool((gap > 0).all())
            closest = gap.argmin()
            z = z[closest] + 0.05 * torch.randn_like(z)
            other = other[closest] + 0.05 * torch.randn_like(z)

    def test_gradient_with_respect_to_z(self) -> None:
        likelihood = self.make_double()
        z = 0.3 * self.latents(likelihood, 3)
        x = likelihood.condition(z, **self.options).sample()

        def log_prob(z: Tensor) -> Tensor:
            density: Tensor = likelihood.condition(z, **self.options).log_prob(x)
            return density

        assert torch.autograd.gradcheck(log_prob, (z.requires_grad_(),))

    def test_trains_in_a_pyro_model(self) -> None:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        likelihood = self.make()
        true = torch.randn(64, likelihood.latent_dim)
        with torch.no_grad():
            x = self.make().condition(true, **self.options).sample()

        def model() -> None:
            pyro.module("likelihood", likelihood)
            with pyro.plate("data", 64):
                prior = dist.Normal(torch.zeros(likelihood.latent_dim), 1.0).to_event(1)
                z = pyro.sample("z", prior)
                pyro.sample("x", likelihood.condition(z, **self.options), obs=x)

        svi = SVI(model, AutoNormal(model), Adam({"lr": 0.02}), Trace_ELBO())
        losses = [svi.step() for _ in range(80)]
        assert torch.tensor(losses).isfinite().all()
        assert sum(losses[-10:]) < sum(losses[:10])
        pyro.clear_param_store()

    def test_copies_and_pickles(self) -> None:
        likelihood = self.make_double()
        z = self.latents(likelihood, 4)
        wanted = likelihood.condition(z, **self.options)
        x = wanted.sample()
        torch.manual_seed(99)
        loaded = self.make().double()
        loaded.load_state_dict(likelihood.state_dict())
        for other in (*copies_of(likelihood), loaded):
            found = other.condition(z, **self.options).log_prob(x)
            assert torch.allclose(found, wanted.log_prob(x), rtol=1e-12)

    def test_bad_input_is_refused(self) -> None:
        likelihood = self.make_double()
        bad = torch.zeros(3, likelihood.latent_dim + 1, dtype=torch.double)
        check_raises(ArgumentError, "z has shape", likelihood.condition, bad)
        whole = torch.zeros(3, likelihood.latent_dim, dtype=torch.long)
        check_raises(ArgumentError, "z has dtype", likelihood.condition, whole)


def _fit_of_counts(samples: Tensor, distribution: Any) -> float:
    """Return the p-value of the outcomes seen often enough, the rest taken together."""
    outcomes, counts = samples.reshape(len(samples), -1).unique(dim=0, return_counts=True)
    shape = (len(outcomes), *distribution.event_shape)
    probs = distribution.log_prob(outcomes.reshape(shape).to(samples.dtype)).exp().detach()
    often = probs * len(samples) > 10
    probs, counts = probs[often], counts[often]
    rest = 1 - probs.sum()
    total = int(counts.sum())
    if rest > 1e-9:
        probs = torch.cat([probs, rest.unsqueeze(0)])
        counts = torch.cat([counts, torch.tensor([len(samples) - total])])
    return float(multinomial_goodness_of_fit(probs, counts))
