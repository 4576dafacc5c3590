# SPDX-License-Identifier: Apache-2.0
"""The laws of a transform, bijective or only injective, as test methods to inherit."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor, nn

from pyro_idvae._abstract import may_override, must_write
from pyro_idvae.errors import ArgumentError
from pyro_idvae.testing.checks import (
    check_raises,
    copies_of,
    in_double,
    mixed_error,
    move_parameters,
    parameters_of,
    plain_function,
    relative_error,
)
from pyro_idvae.testing.search import lipschitz_search


class TransformLaws:
    """What every map of the package must obey, bijective or only injective.

    Subclass it and write :meth:`make` and ``input_dim``. A law about parameters speaks of maps that
    have some; of one without, it asks what is left of it: gradients with respect to the input,
    training of what surrounds it.

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
    """Dimension of x."""

    any_dim = False
    """Whether it takes vectors of any length, so that no length is wrong."""

    @must_write
    def make(self) -> Any:
        """Return the transform under test; called after seeding."""
        raise NotImplementedError

    @may_override
    def make_double(self) -> Any:
        """Return what :meth:`make` does, in double precision."""
        torch.manual_seed(0)
        return in_double(self.make())

    @may_override
    def transform_of(self, made: Any) -> Any:
        """Return the transform that what :meth:`make` returned stands for: itself."""
        return made

    @may_override
    def points(self, *batch: int, scale: float = 1.0) -> Tensor:
        """Return random points of shape ``batch + (input_dim,)``."""
        generator = torch.Generator().manual_seed(1)
        shape = (*batch, self.input_dim)
        return scale * torch.randn(shape, generator=generator, dtype=torch.double)

    def test_inverse(self) -> None:
        transform = self.transform_of(self.make_double())
        for scale in (1e-3, 1.0, 1e4):
            x = self.points(50, scale=scale)
            y = transform(x).detach()
            assert relative_error(transform(transform.inv(y)), y) <= 1e-10
            assert relative_error(transform.inv(y), x) <= 1e-9 / min(scale, 1.0)

    def test_inverse_has_implicit_gradients(self) -> None:
        """f⁻¹(f(x)) = x: what differentiates f⁻¹ and what differentiates f must cancel."""
        made = self.make_double()
        transform = self.transform_of(made)
        parameters = parameters_of(made)
        x = self.points(4).requires_grad_()
        y = transform(x).detach().requires_grad_()
        weights = torch.randn(4, self.input_dim, dtype=torch.double)
        pulled, *grads = torch.autograd.grad((transform.inv(y) * weights).sum(), [y, *parameters])
        back, *others = torch.autograd.grad((transform(x) * pulled).sum(), [x, *parameters])
        assert mixed_error(back, weights) <= 1e-8
        for grad, other in zip(grads, others, strict=True):
            assert mixed_error(grad, -other) <= 1e-8

    def test_log_det_is_that_of_autograds_jacobian(self) -> None:
        transform = self.transform_of(self.make_double())
        x = self.points(6)
        jacobian = torch.vmap(torch.func.jacrev(transform))(x)
        wanted = 0.5 * torch.logdet(jacobian.mT @ jacobian)
        y, log_det = transform.call_and_ladj(x)
        assert log_det.shape == (6,)
        assert mixed_error(log_det, wanted) <= 1e-8
        assert mixed_error(transform.log_abs_det_jacobian(x, y), wanted) <= 1e-8
        assert relative_error(y, transform(x)) <= 1e-12

    def test_no_pair_of_points_beats_the_bounds(self) -> None:
        transform = self.transform_of(self.make_double())
        low, high = transform.lipschitz_bounds()
        found_low, found_high = lipschitz_search(transform, self.input_dim)
        assert 0 < low <= found_low * (1 + 1e-8)
        assert found_high <= high * (1 + 1e-8)

    def test_batch_shapes(self) -> None:
        transform = self.transform_of(self.make_double())
        for batch in ((), (1,), (0,), (4,), (2, 3), (2, 1, 3)):
            x = self.points(*batch)
            y, log_det = transform.call_and_ladj(x)
            assert y.shape == transform.forward_shape(x.shape)
            assert transform.inverse_shape(y.shape) == x.shape
            assert log_det.shape == batch
            assert transform.inv(y).shape == x.shape
            assert torch.allclose(transform.inv(y.detach()), x)

    def test_works_under_every_torch_mode(self) -> None:
        made = self.make_double()
        transform = self.transform_of(made)
        x = self.points(4)
        y, log_det = (value.detach() for value in transform.call_and_ladj(x))
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                found, found_log_det = transform.call_and_ladj(x)
                assert relative_error(found, y) <= 1e-12
                assert mixed_error(found_log_det, log_det) <= 1e-10
                assert torch.allclose(transform.inv(found), x)
        found, found_log_det = torch.vmap(transform.call_and_ladj)(x)
        assert relative_error(found, y) <= 1e-12
        assert mixed_error(found_log_det, log_det) <= 1e-10
        for parameter in parameters_of(made):
            parameter.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(
                plain_function(transform.call_and_ladj), (x,), check_trace=False
            )
        for left, right in zip(traced(x + 1), transform.call_and_ladj(x + 1), strict=True):
            assert mixed_error(left, right) <= 1e-12

    def test_copies_and_pickles(self) -> None:
        made = self.make_double()
        transform = self.transform_of(made)
        x = self.points(4)
        y = transform(x)  # leaves something to remember, which must not travel
        for other in copies_of(made):
            assert torch.equal(self.transform_of(other)(x), y)
            assert not parameters_of(made) or hash(other) != hash(made)
        for other in (*copies_of(transform), transform.with_cache()):
            assert torch.equal(other(x), y)
        if isinstance(made, nn.Module):
            torch.manual_seed(99)
            other = in_double(self.make())
            other.load_state_dict(made.state_dict())
            assert torch.equal(self.transform_of(other)(x), y)

    def test_nothing_is_stale_after_a_parameter_update(self) -> None:
        """A copy, which remembers nothing, says what must come out; without parameters, too."""
        made = self.make_double()
        transform = self.transform_of(made)
        x = self.points(4)
        y = transform(x)
        before = transform.log_abs_det_jacobian(x, y)
        move_parameters(made)
        fresh = self.transform_of(copy.deepcopy(made))
        moved = transform(x)
        assert torch.equal(moved, fresh(x))
        wanted = fresh.log_abs_det_jacobian(x, fresh(x))
        assert mixed_error(transform.log_abs_det_jacobian(x, moved), wanted) <= 1e-12
        assert torch.allclose(transform.inv(moved), x)
        if transform.bijective:
            assert relative_error(transform(transform.inv(y)), y) <= 1e-10
        if parameters_of(made):
            assert not torch.allclose(moved, y)
        else:
            assert torch.equal(moved, y)
            assert torch.equal(wanted, before)

    def test_single_precision(self) -> None:
        torch.manual_seed(0)
        transform = self.transform_of(self.make())
        x = self.points(20).float()
        y = transform(x).detach()
        assert y.dtype == torch.float32
        assert relative_error(transform.inv(y), x) <= 1e-3

    def test_bad_input_is_refused(self) -> None:
        """Another length, whole numbers, and another dtype than that of the parameters."""
        made = self.make_double()
        transform = self.transform_of(made)
        bad = [torch.zeros(3, self.input_dim, dtype=torch.long)]
        if not self.any_dim:
            bad.append(torch.zeros(3, self.input_dim + 1, dtype=torch.double))
        single = torch.zeros(3, self.input_dim, dtype=torch.float32)
        if parameters_of(made):
            bad.append(single)
        else:
            assert transform(single).dtype == torch.float32
        for x in bad:
            check_raises((ArgumentError, RuntimeError), "", transform, x)

    def test_twenty_full_batch_svi_steps(self) -> None:
        """Train it as a flow under SVI, or the base below it: finite falling losses."""
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        made = self.make_double()
        transform = self.transform_of(made)
        data = transform(2 * self.points(64) + 1).detach()
        zeros = torch.zeros(self.input_dim, dtype=torch.double)

        def model() -> None:
            loc = zeros
            if parameters_of(made):
                pyro.module("transform", made)
            else:
                loc = pyro.param("loc", zeros.clone())
            base = dist.Normal(loc, torch.ones_like(zeros)).to_event(1)
            flow = dist.TransformedDistribution(base, [transform])
            with pyro.plate("data", len(data)):
                pyro.sample("x", flow, obs=data)

        svi = SVI(model, lambda: None, Adam({"lr": 1e-2}), Trace_ELBO())
        losses = [svi.step() for _ in range(20)]
        assert torch.tensor(losses).isfinite().all()
        assert losses[-1] < losses[0]
        pyro.clear_param_store()

    def test_three_optimiser_steps_on_one_transform(self) -> None:
        """One flow, made once, whose density is taken and differentiated again and again."""
        made = self.make_double()
        transform = self.transform_of(made)
        data = transform(2 * self.points(64) + 1).detach()
        self._falls_in_three_steps(made, [transform], lambda flow: -flow.log_prob(data).mean())

    def test_three_optimiser_steps_on_its_inverse(self) -> None:
        """The same with ``inv`` in the flow; through ``inv`` for maps into more dimensions."""
        made = self.make_double()
        transform = self.transform_of(made)
        x = 2 * self.points(64) + 1
        if transform.forward_shape(x.shape) == x.shape:
            self._falls_in_three_steps(made, [transform.inv], lambda f: -f.log_prob(x).mean())
        else:
            y = transform(x).detach()
            self._falls_in_three_steps(
                made, [], lambda base: -base.log_prob(transform.inv(y)).mean()
            )

    def _falls_in_three_steps(
        self, made: Any, transforms: list[Any], loss: Callable[[Any], Tensor]
    ) -> None:
        """Take three steps on one flow, with the base's location if the map has no parameters."""
        loc = torch.zeros(self.input_dim, dtype=torch.double)
        parameters: list[Tensor] = [*parameters_of(made)] or [loc.requires_grad_()]
        base = dist.Normal(loc, torch.ones_like(loc)).to_event(1)
        flow = dist.TransformedDistribution(base, transforms) if transforms else base
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        losses = [float(loss(flow).detach())]
        for _ in range(3):
            optimizer.zero_grad()
            loss(flow).backward()
            optimizer.step()
            losses.append(float(loss(flow).detach()))
        assert torch.tensor(losses).isfinite().all()
        assert losses[-1] < losses[0]
        assert not any(map(torch.equal, before, parameters))
