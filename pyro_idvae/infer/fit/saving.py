# SPDX-License-Identifier: Apache-2.0
"""Saving and loading fitted models: weights only, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pyro_idvae._checks import check_path
from pyro_idvae.errors import ArgumentError, CheckpointError
from pyro_idvae.infer.fit import container
from pyro_idvae.infer.fit.container import WEIGHTS
from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.parameters import claim_parameters
from pyro_idvae.programs.run import Program, owners_of

BEST = "best/"


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names they have in a file."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def section(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file whose names begin so, without it."""
    return {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}


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

    Of modules the whole state is kept, buffers included; of plain functions the values of their
    ``pyro.param`` and ``pyro.module`` statements, without buffers. The file appears whole or not at
    all, with the mode of the one it replaces; tensors are written by safetensors, with a checksum.

    Args:
        path: the file; a symbolic link stays one, and its target is written.
        model: the model.
        guide: the guide.
        data: data to run the pair on once; needed for plain functions, whose parameters are known
            only then.

    Returns:
        The path written.

    Raises:
        ArgumentError: for a plain function without ``data``.
        CheckpointError: for weights that are not finite or not dense, and for a path that cannot be
            written or is no regular file; what was there is as it was.

    Example:
        >>> import tempfile, pathlib, torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = idvae.save(pathlib.Path(folder) / "vae.pt", vae.model, vae.guide)
        ...     idvae.load(path, vae.model, vae.guide)
    """
    target = check_path("path", path)
    functions = [r for r, p in _programs(model, guide).items() if not owners_of(p)]
    if functions and data is None:
        raise ArgumentError(
            f"{' and '.join(functions)} is a plain function: pass data= to run it once, so "
            "that its parameters are known"
        )
    pair = PairTensors(model, guide, _statements(model, guide, data))
    tensors = pair.live()
    pair.check_finite(str(target), tensors)
    roles = list(_programs(model, guide))
    container.write(target, prefixed(WEIGHTS, tensors), {"kind": "weights", "roles": roles})
    return target


def _statements(model: Program, guide: Program | None, data: Any) -> dict[str, Tensor]:
    """Return what a pair has in the store, unconstrained; nothing without data to run it on."""
    if data is None:
        return {}
    return claim_parameters(model, guide, as_arguments(data)).parameters


def load(
    path: str | os.PathLike[str],
    model: Program,
    guide: Program | None = None,
    *,
    data: Any = None,
) -> None:
    """Load what :func:`save` wrote, or a checkpoint of :func:`fit`, into a pair of the same make.

    Of a checkpoint the weights of the best epoch are taken, if there was validation. Reads tensors
    and JSON and never runs code from the file. Values go to the devices of the pair's parameters.
    Nothing is changed unless everything fits.

    Args:
        path: the file.
        model: a model built with the same arguments as the saved one.
        guide: a guide likewise.
        data: data to run the pair on once: needed for autoguides that have not been run yet, and
            for plain functions, whose parameters exist only then.

    Raises:
        CheckpointError: for a file that is no such file, is damaged, or does not fit.
    """
    tensors, said = container.read(check_path("path", path))
    for role, program in _programs(model, guide).items():
        if role not in said["roles"] and isinstance(program, nn.Module):
            raise CheckpointError(f"{path} holds no {role}: it was saved without one")
    weights = section(BEST, tensors) or section(WEIGHTS, tensors)
    bare = sorted(n.removeprefix("param.") for n in weights if n.startswith("param."))
    if bare and data is None:
        raise CheckpointError(
            f"{path} holds the parameters {bare} of pyro.param or pyro.module statements: pass "
            "data= to run model and guide once"
        )
    if guide is None:
        weights = {n: value for n, value in weights.items() if not n.startswith("guide.")}
    # Version 0.1 knew the parameters of a bound method's module by their names in the store.
    methods = said["format"] > 1
    pair = PairTensors(model, guide, _statements(model, guide, data), methods=methods)
    known = pair.live()
    pair.check_finite(str(path), {n: value for n, value in weights.items() if n in known})
    pair.load(str(path), weights)
