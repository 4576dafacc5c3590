# SPDX-License-Identifier: Apache-2.0
"""The laws of a bijective transform and of an injection, as test methods to inherit."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.testing.potential import check_raises, plain_function, relative_error
from pyro_idvae.testing.search import lipschitz_search


class TransformLaws:
    """What every map of the package must obey, bijective or only injective.

    Subclass it and write :meth:`make` and ``input_dim``.

    Example:
        >>> from pyro_idvae.testing import TransformLaws
        >>> from pyro_idvae.transforms import brenier
        >>> class TestBrenier(TransformLaws):
        ...     input_dim = 2
        ...     def make(self):
        ...         return brenier(2, hidden_dims=[8])
        >>> TestBrenier().test_inverse()
    """

    input_dim = 1

    def make(self) -> Any:
        """Return the transform under test; called after seeding."""
        raise NotImplementedError

    def make_double(self) -> Any:
        """Return :meth:`make`'s transform in double precision."""
        torch.manual_seed(0)
        return self.make().double()

    def points(self, *batch: int, scale: float = 1.0) -> Tensor:
        """Return random points of shape ``batch + (input_dim,)``."""
        generator = torch.Generator().manual_seed(1)
        shape = (*batch, self.input_dim)
        return scale * torch.randn(shape, generator=generator, dtype=torch.double)

    def test_inverse(self) -> None:
        transform = self.make_double()
        for scale in (1e-3, 1.0, 1e4):
            x = self.points(50, scale=scale)
            y = transform(x).detach()
            assert relative_error(transform(transform.inv(y)), y) <= 1e-10
            assert relative_error(transform.inv(y), x) <= 1e-9 / min(scale, 1.0)

    def test_inverse_has_implicit_gradients(self) -> None:
        transform = self.make_double()
        x = self.points(4)
        y = transform(x).detach().requires_grad_()
        weights = torch.randn(4, self.input_dim, dtype=torch.double)
        parameters = list(transform.parameters())
        (transform.inv(y) * weights).sum().backward()
        # f⁻¹(f(x)) = x: differentiate both routes through f.
        through_y = torch.autograd.grad((transform(x) * y.grad).sum(), parameters)
        for parameter, other in zip(parameters, through_y, strict=True):
            assert parameter.grad is not None
            assert float((parameter.grad + other).abs().max()) <= 1e-8 * (
                1 + float(other.abs().max())
            )

    def test_log_det_is_that_of_autograds_jacobian(self) -> None:
        transform = self.make_double()
        x = self.points(6)
        jacobian = torch.vmap(torch.func.jacrev(transform))(x)
        wanted = 0.5 * torch.logdet(jacobian.mT @ jacobian)
        y, log_det = transform.call_and_ladj(x)
        assert log_det.shape == (6,)
        assert relative_error(log_det, wanted) <= 1e-8
        assert relative_error(transform.log_abs_det_jacobian(x, y), wanted) <= 1e-8
        assert relative_error(y, transform(x)) <= 1e-12

    def test_no_pair_of_points_beats_the_bounds(self) -> None:
        transform = self.make_double()
        low, high = transform.lipschitz_bounds()
        found_low, found_high = lipschitz_search(transform, self.input_dim)
        assert 0 < low <= found_low * (1 + 1e-8)
        assert found_high <= high * (1 + 1e-8)

    def test_batch_shapes(self) -> None:
        transform = self.make_double()
        for batch in ((), (1,), (0,), (4,), (2, 3), (2, 1, 3)):
            x = self.points(*batch)
            y, log_det = transform.call_and_ladj(x)
            assert y.shape == transform.forward_shape(x.shape)
            assert transform.inverse_shape(y.shape) == x.shape
            assert log_det.shape == batch
            assert transform.inv(y).shape == x.shape
            assert torch.allclose(transform.inv(y.detach()), x)

    def test_works_under_every_torch_mode(self) -> None:
        transform = self.make_double()
        x = self.points(4)
        y, log_det = (value.detach() for value in transform.call_and_ladj(x))
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                found, found_log_det = transform.call_and_ladj(x)
                assert relative_error(found, y) <= 1e-12
                assert relative_error(found_log_det, log_det) <= 1e-10
                assert torch.allclose(transform.inv(found), x)
        found, found_log_det = torch.vmap(transform.call_and_ladj)(x)
        assert relative_error(found, y) <= 1e-12
        assert relative_error(found_log_det, log_det) <= 1e-10
        transform.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(
                plain_function(transform.call_and_ladj), (x,), check_trace=False
            )
        for left, right in zip(traced(x + 1), transform.call_and_ladj(x + 1), strict=True):
            assert relative_error(left, right) <= 1e-12

    def test_copies_and_pickles(self) -> None:
        transform = self.make_double()
        x = self.points(4)
        y = transform(x)  # leaves something to remember, which must not travel
        for other in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
            assert torch.equal(other(x), y)
            assert hash(other) != hash(transform)
        torch.manual_seed(99)
        other = self.make().double()
        other.load_state_dict(transform.state_dict())
        assert torch.equal(other(x), y)
        assert torch.equal(transform.with_cache()(x), y)

    def test_nothing_is_stale_after_a_parameter_update(self) -> None:
        transform = self.make_double()
        x = self.points(4)
        y = transform(x)
        before = transform.log_abs_det_jacobian(x, y).detach()
        with torch.no_grad():
            for parameter in transform.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        assert not torch.allclose(transform(x), y)
        assert torch.allclose(transform.inv(transform(x)), x)
        if transform.bijective:
            assert relative_error(transform(transform.inv(y)), y) <= 1e-10
        assert not torch.allclose(transform.log_abs_det_jacobian(x, y), before)

    def test_single_precision(self) -> None:
        torch.manual_seed(0)
        transform = self.make()
        x = self.points(20).float()
        y = transform(x).detach()
        assert y.dtype == torch.float32
        assert relative_error(transform.inv(y), x) <= 1e-3

    def test_bad_input_is_refused(self) -> None:
        transform = self.make_double()
        for x in (
            torch.zeros(3, self.input_dim + 1, dtype=torch.double),
            torch.zeros(3, self.input_dim, dtype=torch.long),
            torch.zeros(3, self.input_dim, dtype=torch.float32),
        ):
            check_raises((ArgumentError, RuntimeError), "", transform, x)

    def test_twenty_full_batch_svi_steps(self) -> None:
        """Train it as a flow under SVI: densities and draws, with finite falling losses."""
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        transform = self.make_double()
        target = torch.randn(64, self.input_dim, dtype=torch.double) * 2 + 1
        data = transform(target).detach() if not transform.bijective else target
        zeros = torch.zeros(self.input_dim, dtype=torch.double)

        def model() -> None:
            pyro.module("transform", transform)
            base = dist.Normal(zeros, torch.ones_like(zeros)).to_event(1)
            flow = dist.TransformedDistribution(base, [transform])
            with pyro.plate("data", len(data)):
                pyro.sample("x", flow, obs=data)

        svi = SVI(model, lambda: None, Adam({"lr": 1e-2}), Trace_ELBO())
        losses = [svi.step() for _ in range(20)]
        assert torch.tensor(losses).isfinite().all()
        assert losses[-1] < losses[0]
        pyro.clear_param_store()


class InjectionLaws(TransformLaws):
    """What every :class:`Injection` must obey besides."""

    def test_jacobian_is_that_of_autograd(self) -> None:
        transform = self.make_double()
        z = self.points(6)
        wanted = torch.vmap(torch.func.jacrev(transform))(z)
        assert relative_error(transform.jacobian(z), wanted) <= 1e-10
        low, high = transform.lipschitz_bounds()
        values = torch.linalg.svdvals(transform.jacobian(self.points(200, scale=5.0)))
        assert values.min().item() >= low * (1 - 1e-10)
        assert values.max().item() <= high * (1 + 1e-10)

    def test_projection_finds_the_point_and_then_the_nearest(self) -> None:
        transform = self.make_double()
        z = self.points(10)
        x = transform(z).detach()
        assert relative_error(transform.project(x), z) <= 1e-9
        away = x + 0.1 * torch.randn_like(x)
        found = transform.project(away)
        slope = transform.jacobian(found).mT @ (transform(found) - away).unsqueeze(-1)
        assert slope.abs().max().item() <= 1e-5
        distance = (transform(found) - away).norm(dim=-1)
        assert bool((distance <= (x - away).norm(dim=-1) * (1 + 1e-12)).all())
