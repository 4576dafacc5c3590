# SPDX-License-Identifier: Apache-2.0
"""Saving and loading fitted models: weights only, whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_idvae.errors import CheckpointError
from pyro_idvae.infer.batches import as_arguments
from pyro_idvae.infer.parameters import Program, claim_parameters

FORMAT = 1


def _programs(model: Program, guide: Program | None) -> dict[str, Program]:
    return {"model": model} if guide is None else {"model": model, "guide": guide}


def save(path: str | os.PathLike[str], model: Program, guide: Program | None = None) -> Path:
    """Save the parameters of a fitted model and guide.

    Of modules the whole state is kept, buffers included; of plain functions what they have in
    Pyro's parameter store. The file appears whole or not at all.

    Args:
        path: the file.
        model: the model.
        guide: the guide.

    Returns:
        The path written.

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
    store = pyro.get_param_store()
    # Modules own nn.Parameters; what else the store holds belongs to pyro.param statements.
    content["store"] = {
        name: store[name].detach().clone()
        for name, value in store.named_parameters()
        if not isinstance(value, nn.Parameter)
    }
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        torch.save(content, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


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
    if data is not None:
        args, kwargs = as_arguments(data)
        claim_parameters(model, guide, args, kwargs)
    states = []
    for role, program in _programs(model, guide).items():
        if not isinstance(program, nn.Module):
            continue
        if role not in content:
            raise CheckpointError(f"{path} holds no {role}: it was saved without one")
        _check_state(f"{path}: {role}", content[role], program.state_dict())
        states.append((program, content[role]))
    store = pyro.get_param_store()
    unknown = sorted(name for name in content["store"] if name not in store)
    if unknown:
        raise CheckpointError(
            f"{path} holds the parameters {unknown} of pyro.param statements that have not been "
            "run: pass data= to run model and guide once"
        )
    for program, state in states:
        program.load_state_dict(state)
    for name, value in content["store"].items():
        store[name] = value


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
