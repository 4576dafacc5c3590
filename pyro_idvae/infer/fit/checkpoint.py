# SPDX-License-Identifier: Apache-2.0
"""Saving and loading fitted models: weights only, whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_idvae.errors import ArgumentError, CheckpointError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.parameters import claim_parameters
from pyro_idvae.programs.run import Program, modules_of

FORMAT = 1


def _programs(model: Program, guide: Program | None) -> dict[str, Program]:
    return {"model": model} if guide is None else {"model": model, "guide": guide}


def save(
    path: str | os.PathLike[str],
    model: Program,
    guide: Program | None = None,
    *,
    data: Any = None,
) -> Path:
    """Save the parameters of a fitted model and guide.

    Of modules the whole state is kept, buffers included; of plain functions and methods the values
    of their ``pyro.param`` and ``pyro.module`` statements, without buffers. The file appears whole
    or not at all.

    Args:
        path: the file.
        model: the model.
        guide: the guide.
        data: data to run the pair on once; needed for plain functions, whose parameters are known
            only then.

    Returns:
        The path written.

    Raises:
        ArgumentError: for a plain function without ``data``.

    Example:
        >>> import tempfile, pathlib, torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = idvae.save(pathlib.Path(folder) / "vae.pt", vae.model, vae.guide)
        ...     idvae.load(path, vae.model, vae.guide)
    """
    target = Path(path)
    content: dict[str, Any] = {"format": FORMAT}
    for role, program in _programs(model, guide).items():
        if isinstance(program, nn.Module):
            content[role] = program.state_dict()
    content["store"] = _statements(model, guide, data)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        torch.save(content, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _statements(model: Program, guide: Program | None, data: Any) -> dict[str, Tensor]:
    """Return what a pair has in the store besides its own modules' parameters, unconstrained."""
    if data is None:
        functions = [r for r, p in _programs(model, guide).items() if not isinstance(p, nn.Module)]
        if functions:
            raise ArgumentError(
                f"{' and '.join(functions)} is a plain function: pass data= to run it once, so "
                "that its parameters are known"
            )
        return {}
    claimed = claim_parameters(model, guide, as_arguments(data)).parameters
    owned = {id(p) for module in modules_of(model, guide) for p in module.parameters()}
    return {name: value.detach() for name, value in claimed.items() if id(value) not in owned}


def load(
    path: str | os.PathLike[str],
    model: Program,
    guide: Program | None = None,
    *,
    data: Any = None,
    map_location: Any = None,
) -> None:
    """Load what :func:`save` wrote into a model and guide of the same make.

    Reads tensors only and never runs code from the file. Nothing is changed unless everything fits.

    Args:
        path: the file.
        model: a model built with the same arguments as the saved one.
        guide: a guide likewise.
        data: data to run the pair on once: needed for autoguides that have not been run yet, and
            for plain functions, whose parameters exist only then.
        map_location: as in ``torch.load``, e.g. ``"cpu"``.

    Raises:
        CheckpointError: for a file that is no such file, or does not fit.
    """
    content = _read(Path(path), map_location)
    known: dict[str, Tensor] = {}
    if data is not None or content["store"]:
        if data is None:
            raise CheckpointError(
                f"{path} holds the parameters {sorted(content['store'])} of pyro.param or "
                "pyro.module statements: pass data= to run model and guide once"
            )
        known = _statements(model, guide, data)
    states = []
    for role, program in _programs(model, guide).items():
        if not isinstance(program, nn.Module):
            continue
        if role not in content:
            raise CheckpointError(f"{path} holds no {role}: it was saved without one")
        _check_state(f"{path}: {role}", content[role], program.state_dict())
        states.append((program, content[role]))
    _check_state(f"{path}: pyro.param statements", content["store"], known)
    for program, state in states:
        program.load_state_dict(state)
    with torch.no_grad():
        for name, value in content["store"].items():
            known[name].copy_(value)


def _read(path: Path, map_location: Any) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} is not a file of weights written by pyro_idvae.save"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a file written by pyro_idvae.save")
    return content


def _check_state(what: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        raise CheckpointError(
            f"{what}: the file lacks {missing} and has {extra} besides. Build it with the saved "
            "one's arguments; an autoguide must be run once first: pass data="
        )
    wrong = {
        name: (tuple(found[name].shape), tuple(wanted[name].shape))
        for name in wanted
        if found[name].shape != wanted[name].shape
    }
    if wrong:
        raise CheckpointError(f"{what}: shapes in the file and in the module differ: {wrong}")
