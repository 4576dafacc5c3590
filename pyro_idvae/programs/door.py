# SPDX-License-Identifier: Apache-2.0
"""The door of every public function: a model, perhaps its guide, and data, checked before work."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_idvae._checks import check_same_kind
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.arguments import Arguments, kind_of, named_arguments, placed, row_count
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.determinism import check_deterministic, check_numbers
from pyro_idvae.programs.run import Program, describe, owners_of
from pyro_idvae.programs.weights import check_weights, weights_of


def open_model(
    model: Program,
    arguments: Arguments,
    *,
    drawn: Sequence[str] | None = None,
    scored: bool = True,
) -> BoundModel:
    """Return a model bound to its data, both checked; the data go where its weights are.

    Args:
        model: the model.
        arguments: the data, by :func:`as_arguments`.
        drawn: names of discrete latents that have draws; see :class:`BoundModel`.
        scored: whether draws will be scored: then densities must not be random, and weights must be
            finite, as must all data of a model that does not check its own.

    Raises:
        ArgumentError: for what is no model, weights that are not finite, data that it cannot be run
            on, or densities that are random.
        DataError: for data that are empty, not finite or outside the support.
        ShapeError: for tensors of different numbers of rows, or observations of another shape than
            their distribution.
    """
    check_program("model", model, arguments)
    arguments = where_weights_are(arguments, model)
    if scored:
        check_weights("model", weights_of(model))
    check_data(model, arguments, like=first_parameter(model), missing=not scored)
    bound = BoundModel(model, None, arguments, drawn=drawn)
    if scored:
        check_numbers(check_deterministic(bound))
    return bound


def open_pair(model: Program, guide: Program, arguments: Arguments) -> BoundModel:
    """Return a model and its guide bound to their data, all checked as :func:`open_model` does.

    Raises:
        SiteMismatchError: if the guide's sites are not the model's.
    """
    arguments = where_weights_are(arguments, model, guide)
    check_pair(model, guide, arguments)
    bound = BoundModel(model, guide, arguments)
    check_numbers(check_deterministic(bound))
    return bound


def check_pair(model: Program, guide: Program, arguments: Arguments) -> None:
    """Check a model, its guide and data without running them.

    Raises:
        ArgumentError: for what is no model or guide, or weights that are not finite.
        DataError: for data that are empty or not finite.
    """
    for role, program in (("model", model), ("guide", guide)):
        check_program(role, program, arguments)
        check_weights(role, weights_of(program))
    check_data(model, arguments, like=first_parameter(model, guide))


def check_program(role: str, program: Any, arguments: Arguments | None = None) -> None:
    """Raise unless something is a model or a guide that takes these arguments.

    Args:
        role: what messages call it, ``"model"`` or ``"guide"``.
        program: what somebody gave for it.
        arguments: the data; None if there are none yet.
    """
    if inspect.isclass(program):
        raise ArgumentError(
            f"{role} is the class {program.__name__}: pass an instance, {program.__name__}(...)"
        )
    if not callable(program):
        raise ArgumentError(
            f"{role} is {kind_of(program)}: expected a Pyro {role}, a function or a module"
        )
    if all(isinstance(getattr(program, half, None), nn.Module) for half in ("model", "guide")):
        raise ArgumentError(
            f"{role} is a {type(program).__name__}, which has both: pass its .model as the model "
            "and its .guide as the guide"
        )
    if arguments is None:
        return
    try:
        # The signature of a module is that of its forward. What a decorator wraps does not count:
        # it may give some of the arguments itself.
        function = program.forward if isinstance(program, nn.Module) else program
        taken = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # what is written in C has none
        return
    args, kwargs = arguments
    try:
        taken.bind(*args, **kwargs)
    except TypeError as error:
        names = [str(parameter) for parameter in taken.parameters.values()]
        raise ArgumentError(
            f"the {role} takes ({', '.join(names)}) but data are {describe(arguments)}: {error}; "
            "pass a tuple of its arguments, or a dict of them by name"
        ) from error


def first_parameter(*programs: Program | None) -> Tensor | None:
    """Return a floating point parameter of these programs; None if they have none."""
    parameters = (p for owner in owners_of(*programs) for p in owner.parameters())
    return next((p for p in parameters if p.is_floating_point()), None)


def where_weights_are(arguments: Arguments, *programs: Program | None) -> Arguments:
    """Return the data on the device of the programs' parameters, if they have any there."""
    like = first_parameter(*programs)
    return arguments if like is None or like.is_meta else placed(arguments, like.device)


def check_data(
    model: Any, arguments: Arguments, like: Tensor | None = None, *, missing: bool = False
) -> None:
    """Raise a typed error for data that nothing could be done with.

    A model with a method ``check_data`` judges its own arguments; for any other, floating point
    tensors must be finite and of the dtype and on the device of the parameters.

    Args:
        model: the model.
        arguments: its arguments.
        like: a parameter of the model; None if it has none.
        missing: whether NaN may stand for what is missing, in any model.
    """
    row_count(arguments)
    for name, value in named_arguments(arguments).items():
        if isinstance(value, Tensor) and value.layout is not torch.strided:
            raise DataError(f"{name} is sparse ({value.layout}): pass {name}.to_dense()")
        if isinstance(value, Tensor) and value.is_complex():
            raise DataError(f"{name} is complex ({value.dtype}): pass real and imaginary parts")
        if isinstance(value, Tensor) and value.is_meta and like is None:
            raise DataError(f"{name} is on the device 'meta' and holds no numbers: pass data")
    args, kwargs = arguments
    if hasattr(model, "check_data"):
        model.check_data(*args, **kwargs)
        return
    for name, value in named_arguments(arguments).items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        if like is not None:
            check_same_kind(name, value, "the model", like)
        bad = value.isinf() if missing else ~value.isfinite()
        if bool(bad.any()):
            where = tuple(bad.nonzero()[0].tolist())
            raise DataError(
                f"{name} has {int(bad.sum())} entries that are not finite, the first at {where}: "
                "clean the data; a model that masks them itself can say so by a method check_data"
            )
