# SPDX-License-Identifier: Apache-2.0
"""The laws of a training objective, as test methods to inherit."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import PyroOptim
from torch import Tensor

from pyro_idvae._abstract import may_override, must_write
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from pyro_idvae.testing.pairs import functions, modules

LAWS = ("neutral", "optimum", "minibatch", "gradient")
"""Laws that an objective may be exempt from, with a reason."""

ROWS, BATCH, REPEATS = 6, 3, 10


class ObjectiveTestCase:
    """What every training objective must obey; subclass it and write :meth:`make`.

    1. *neutral*: there is a setting, :meth:`make_neutral`, in which it is the plain ELBO;
    2. *optimum*: on a linear Normal model it ends where its formula says, :meth:`check_optimum`;
    3. *minibatch*: batches give on average what all data give;
    4. its gradients are finite in single precision;
    5. *gradient*: they are those of finite differences at the same noise.

    What an objective does not obey it says in its attribute ``exempt``, a reason by law. Besides,
    an evaluation takes no step, a state that is loaded is the state, and it trains modules as well
    as plain functions.

    Example:
        >>> from pyro_idvae.infer.objectives import Beta
        >>> from pyro_idvae.testing import ObjectiveTestCase
        >>> class TestBeta(ObjectiveTestCase):
        ...     def make(self):
        ...         return Beta(0.5)
        >>> TestBeta().test_minibatches_give_all_data_on_average()
    """

    @must_write
    def make(self) -> Any:
        """Return the objective under test."""
        raise NotImplementedError

    @may_override
    def make_neutral(self) -> Any:
        """Return the objective in the setting in which it is the plain ELBO."""
        raise NotImplementedError("write make_neutral, or say in exempt why there is no such thing")

    @may_override
    def make_smooth(self) -> Any:
        """Return the objective whose gradients are compared with finite differences."""
        return self.make()

    @may_override
    def plain(self) -> Any:
        """Return the plain ELBO."""
        return TraceMeanField_ELBO()

    @may_override
    def check_optimum(self) -> None:
        """Minimise on a :class:`LinearGaussian`, and fail unless it ends where it should."""
        raise NotImplementedError("write check_optimum, or say in exempt why there is no formula")

    def is_exempt(self, law: str, objective: Any = None) -> bool:
        """Tell whether a law is not asked of the objective; it must have said why."""
        reasons = _exempt(self.make() if objective is None else objective)
        if law not in reasons:
            return False
        assert len(reasons[law]) > 10, f"{law}: no reason is given"
        return True

    def test_what_is_not_obeyed_is_a_law(self) -> None:
        assert set(_exempt(self.make())) <= set(LAWS)

    def test_neutral_setting_is_the_plain_elbo(self) -> None:
        if self.is_exempt("neutral"):
            return
        for model, guide, data in (modules(), functions()):
            losses, slopes = [], []
            for objective in (self.make_neutral(), self.plain()):
                loss, slope = loss_and_slope(objective, model, guide, data)
                assert abs(objective.loss(model, guide, *data)) > 0
                losses.append(loss)
                slopes.append(slope)
            scale = 1 + abs(losses[1])
            assert abs(losses[0] - losses[1]) <= 1e-6 * scale, losses
            assert float((slopes[0] - slopes[1]).abs().max()) <= 1e-6 * scale

    def test_optimum_of_a_linear_model_is_that_of_the_formula(self) -> None:
        if not self.is_exempt("optimum"):
            self.check_optimum()

    def test_minibatches_give_all_data_on_average(self) -> None:
        if self.is_exempt("minibatch"):
            return
        bed = LinearGaussian()
        generator = torch.Generator().manual_seed(0)
        rows = torch.randperm(len(bed.x), generator=generator)[:ROWS]
        x, draws = bed.x[rows] + 0.1, bed.draws[rows]
        objective = self.make()

        def loss(index: list[int]) -> float:
            own = copy.deepcopy(objective)
            return float(own.loss_and_grads(bed.model, bed.guide, x[index], draws[index], ROWS))

        whole, parts = [], []
        for seed in range(REPEATS):
            pyro.set_rng_seed(seed)
            whole.append(loss(list(range(ROWS))))
            batches = itertools.combinations(range(ROWS), BATCH)
            parts.append(torch.tensor([loss(list(batch)) for batch in batches]).mean().item())
        both = torch.tensor([whole, parts], dtype=torch.double)
        error = float(both.var(-1).sum().div(REPEATS).sqrt())
        gap = float((both[0] - both[1]).mean().abs())
        assert gap <= 5 * error + 1e-6 * float(both.abs().max()), (gap, error)

    def test_gradients_are_finite_in_single_precision(self) -> None:
        for start in (1.0, 0.0, 1e3):
            model, guide, data = modules(torch.float32)
            with torch.no_grad():
                last = list(guide.parameters())[-2:]
                for parameter in last:
                    parameter.mul_(start)
            loss, slope = loss_and_slope(self.make(), model, guide, data)
            assert torch.tensor(loss).isfinite()
            assert bool(slope.isfinite().all())

    def test_gradients_are_those_of_differences(self) -> None:
        objective = self.make_smooth()
        if self.is_exempt("gradient", objective):
            return
        model, guide, data = modules()
        parameters = [*model.parameters(), *guide.parameters()]
        _, slope = loss_and_slope(objective, model, guide, data)
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(slope.shape, generator=generator, dtype=slope.dtype)
        direction /= direction.norm()
        step, ends = 1e-5, []
        for sign in (1.0, -1.0):
            shift(parameters, sign * step * direction)
            ends.append(loss_and_slope(objective, model, guide, data)[0])
            shift(parameters, -sign * step * direction)
        wanted = (ends[0] - ends[1]) / (2 * step)
        assert abs(float(slope @ direction) - wanted) <= 1e-5 * (1 + abs(wanted))

    def test_an_evaluation_takes_no_step(self) -> None:
        model, guide, data = modules()
        objective = self.make()
        before = state_of(objective)
        objective.loss(model, guide, *data)
        with torch.no_grad():
            objective.differentiable_loss(model, guide, *data)
        assert same(before, state_of(objective))

    def test_a_state_that_is_loaded_is_the_state(self) -> None:
        model, guide, data = modules()
        objective, other = self.make(), self.make()
        for _ in range(3):
            loss_and_slope(objective, model, guide, data, copied=False)
        fresh = state_of(other)
        if hasattr(other, "load_state_dict"):
            other.load_state_dict(state_of(objective))
        assert same(state_of(other), state_of(objective))
        losses = [
            loss_and_slope(o, model, guide, data, copied=False)[0] for o in (objective, other)
        ]
        assert losses[0] == losses[1]
        if hasattr(objective, "restart"):
            objective.restart()
            assert same(state_of(objective), fresh)

    def test_trains_functions_by_svi(self) -> None:
        model, guide, data = functions()
        objective, before = self.make(), negative_elbo(model, guide, data)
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.08}), objective)
        for _ in range(80):
            assert torch.tensor(float(svi.step(*data))).isfinite()
        trained = objective.trained_guide(model, guide, *data)
        assert negative_elbo(model, trained, data) < before

    def test_trains_modules_by_torch(self) -> None:
        model, guide, data = modules()
        objective, before = self.make(), negative_elbo(model, guide, data)
        module = objective(model, guide)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            module(*data).backward()
            optimizer.step()
        trained = objective.trained_guide(model, guide, *data)
        assert negative_elbo(model, trained, data) < before


def loss_and_slope(
    objective: Any, model: Any, guide: Any, data: tuple[Any, ...], *, copied: bool = True
) -> tuple[float, Tensor]:
    """Return a training loss and its gradient in all parameters, at the noise of one seed.

    Args:
        objective: the objective.
        model: the model.
        guide: the guide.
        data: their arguments.
        copied: whether the step is taken by a copy, so that the objective stays as it is.
    """
    own = copy.deepcopy(objective) if copied else objective
    modules = [program for program in (model, guide) if isinstance(program, torch.nn.Module)]
    parameters: list[Any] = [p for module in modules for p in module.parameters()]
    for parameter in parameters:
        parameter.grad = None
    pyro.set_rng_seed(0)
    with pyro.poutine.trace(param_only=True) as seen:
        loss = float(own.loss_and_grads(model, guide, *data))
    nodes: Any = seen.trace.nodes
    parameters += [nodes[name]["value"].unconstrained() for name in sorted(nodes)]
    distinct = {id(p): p for p in parameters}.values()
    slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in distinct]
    flat = torch.cat([slope.detach().clone().reshape(-1) for slope in slopes])
    for parameter in distinct:
        parameter.grad = None
    return loss, flat


def negative_elbo(model: Any, guide: Any, data: tuple[Any, ...]) -> float:
    """Return an estimate of the −ELBO."""
    pyro.set_rng_seed(0)
    elbo = TraceMeanField_ELBO(num_particles=50)
    return float(elbo.loss(model, guide, *data))


@torch.no_grad()
def shift(parameters: list[Tensor], move: Tensor) -> None:
    """Move parameters along a vector, in place."""
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, part in zip(parameters, move.split(sizes), strict=True):
        parameter.add_(part.reshape(parameter.shape))


def state_of(objective: Any) -> Any:
    """Return a copy of an objective's state; None if it has none."""
    return copy.deepcopy(objective.state_dict()) if hasattr(objective, "state_dict") else None


def same(one: Any, other: Any) -> bool:
    """Tell whether two states are the same, to the last bit."""
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return bool(one == other) or (math.isnan(one) and math.isnan(other))


def _exempt(objective: Any) -> dict[str, str]:
    return dict(getattr(objective, "exempt", {}))
