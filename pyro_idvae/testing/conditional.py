# SPDX-License-Identifier: Apache-2.0
"""The laws of a conditional transform, as test methods to inherit."""

from __future__ import annotations

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.conditional import ConditionalTransform
from torch import Tensor

from pyro_idvae._abstract import may_override
from pyro_idvae.errors import ArgumentError
from pyro_idvae.testing.checks import (
    check_raises,
    mixed_error,
    move_parameters,
    parameters_of,
    relative_error,
)
from pyro_idvae.testing.transform import TransformLaws


class ConditionalTransformLaws(TransformLaws):
    """What a transform with a context must obey: the laws of a transform at each context.

    Write ``input_dim``, ``context_dim`` and :meth:`make`, which returns a conditional transform
    that does depend on its context.

    Example:
        >>> import torch
        >>> from pyro_idvae.testing import ConditionalTransformLaws
        >>> from pyro_idvae.transforms import conditional_brenier
        >>> class TestConditional(ConditionalTransformLaws):
        ...     input_dim, context_dim = 2, 3
        ...     def make(self):
        ...         transform = conditional_brenier(2, 3, hidden_dims=[8])
        ...         for parameter in transform.potential.network.parameters():
        ...             torch.nn.init.normal_(parameter, 0.0, 0.3)
        ...         return transform
        >>> TestConditional().test_conditioning_is_deferred()
    """

    context_dim = 1
    """Dimension of the context."""

    @may_override
    def contexts(self, made: Any, *batch: int) -> Tensor:
        """Return random contexts of shape ``batch + (context_dim,)``, of the parameters' dtype."""
        generator = torch.Generator().manual_seed(2)
        shape = (*batch, self.context_dim)
        contexts = torch.randn(shape, generator=generator, dtype=torch.double)
        return contexts.to(parameters_of(made)[0].dtype)

    def transform_of(self, made: Any) -> Any:
        """Return the transform at one context."""
        return made.condition(self.contexts(made))

    def test_it_counts_as_pyros(self) -> None:
        made = self.make_double()
        assert issubclass(type(made), ConditionalTransform)
        context = self.contexts(made, 4)
        assert isinstance(made.condition(context), torch.distributions.Transform)
        zeros = torch.zeros(self.input_dim, dtype=torch.double)
        base = dist.Normal(zeros, torch.ones_like(zeros)).to_event(1)
        x = self.points(4)
        for transform in (made, made.inv, made.inv.inv):
            flow = dist.ConditionalTransformedDistribution(base, [transform]).condition(context)
            assert flow.rsample(torch.Size([4])).shape == (4, self.input_dim)
            assert flow.log_prob(x).shape == (4,)
        found = made.inv.condition(context)(made.condition(context)(x).detach())
        assert relative_error(found, x) <= 1e-8

    def test_each_row_has_its_own_context(self) -> None:
        made = self.make_double()
        contexts, x = self.contexts(made, 4), self.points(4)
        y, log_det = made.condition(contexts).call_and_ladj(x)
        assert relative_error(made.condition(contexts).inv(y.detach()), x) <= 1e-8
        for context, row, image, volume in zip(contexts, x, y, log_det, strict=True):
            single = made.condition(context)
            assert relative_error(single(row), image) <= 1e-10
            jacobian = torch.func.jacrev(single)(row)
            assert mixed_error(torch.linalg.slogdet(jacobian).logabsdet, volume) <= 1e-8
        assert not torch.allclose(made.condition(contexts.flip(0))(x), y)

    def test_contexts_and_parameters_get_gradients(self) -> None:
        made = self.make_double()
        contexts = self.contexts(made, 4).requires_grad_()
        y, log_det = made.condition(contexts).call_and_ladj(self.points(4))
        value = y.square().sum() + log_det.sum()
        grads = torch.autograd.grad(value, [contexts, *parameters_of(made)])
        assert all(bool(grad.isfinite().all()) for grad in grads)
        assert bool((grads[0].abs().sum(-1) > 0).all())

    def test_conditioning_is_deferred(self) -> None:
        """One conditioned transform serves many backward passes, and sees parameters move."""
        made = self.make_double()
        contexts, x = self.contexts(made, 4), self.points(4)
        conditioned = made.condition(contexts)
        y = conditioned(x).detach()
        for _ in range(2):
            conditioned(x).sum().backward()
            conditioned.inv(y).sum().backward()
            conditioned.log_abs_det_jacobian(x, y).sum().backward()
        before = conditioned.lipschitz_bounds()
        move_parameters(made)
        fresh = copy.deepcopy(made).condition(contexts)
        assert torch.equal(conditioned(x), fresh(x))
        assert mixed_error(conditioned.inv(y), fresh.inv(y)) <= 1e-10
        assert not torch.allclose(conditioned(x), y)
        assert conditioned.lipschitz_bounds() == fresh.lipschitz_bounds()
        assert before[0] > 0

    def test_what_is_conditioned_owns_no_parameter(self) -> None:
        made = self.make_double()
        assert not parameters_of(made.condition(self.contexts(made, 4)))

    def test_bad_contexts_are_refused_at_once(self) -> None:
        made = self.make_double()
        for context in (
            torch.zeros(3, self.context_dim + 1, dtype=torch.double),
            torch.zeros(3, self.context_dim, dtype=torch.long),
            torch.zeros(3, self.context_dim, dtype=torch.float32),
        ):
            check_raises(ArgumentError, "context has", made.condition, context)
