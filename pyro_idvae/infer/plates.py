# SPDX-License-Identifier: Apache-2.0
"""Which plate holds the data, and whether a pair can run on a part of them."""

from __future__ import annotations

from typing import Any

import torch

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.batches import Arguments, row_count, take_rows
from pyro_idvae.infer.parameters import (
    Program,
    evaluating,
    is_subsampling,
    latent_sites,
    observed_sites,
    run_pair,
)


def frame_sizes(trace: Any) -> dict[str, int]:
    """Return the sizes of the plates around the observed sites, by name."""
    return {
        str(frame.name): int(frame.size)
        for site in observed_sites(trace).values()
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    }


def find_data_plate(model: Program, arguments: Arguments, trace: Any) -> str | None:
    """Return the name of the plate whose size is the number of rows, or None.

    If several plates have that size, the one that shrinks with the data is meant.
    """
    rows = row_count(arguments)
    names = [name for name, size in frame_sizes(trace).items() if size == rows]
    if len(names) < 2:
        return names[0] if names else None
    if rows > 1:
        args, kwargs = take_rows(arguments, torch.arange(rows - 1))
        try:
            with torch.no_grad(), evaluating(model):
                fewer = frame_sizes(run_pair(model, None, args, kwargs)[0])
        except (RuntimeError, ValueError):
            fewer = {}
        shrunk = [name for name in names if fewer.get(name) == rows - 1]
        if len(shrunk) == 1:
            return shrunk[0]
    raise ArgumentError(
        f"the plates {names} all have the size of the data's {rows} rows: give the data another "
        "number of rows, so that it can be told which of them holds the data"
    )


def subsampled_size(trace: Any) -> int | None:
    """Return the full size of a plate that the model itself subsamples, or None."""
    for site in observed_sites(trace).values():
        for frame in site["cond_indep_stack"]:
            if frame.full_size is not None and frame.full_size > frame.size:
                return int(frame.full_size)
    return None


def check_minibatch(
    model: Program, guide: Program, arguments: Arguments, trace: Any, num_rows: int
) -> None:
    """Raise unless a batch can stand for all rows.

    Weighting a batch by N/B is right only if every site is inside the data plate, and a guide whose
    variational parameters belong to certain rows would lend them to others.

    Args:
        model: the model.
        guide: the guide.
        arguments: a batch.
        trace: the model's trace on it.
        num_rows: N.
    """
    rows = row_count(arguments)
    plate = find_data_plate(model, arguments, trace)
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or is_subsampling(site):
            continue
        if plate is None or all(frame.name != plate for frame in site["cond_indep_stack"]):
            kind = "observed" if site["is_observed"] else "latent"
            raise ArgumentError(
                f"the {kind} site {name!r} is not in a plate of the batch's {rows} rows: a "
                f"minibatch of {num_rows} would count it once for each batch. Put it inside "
                "pyro.plate('data', len(x)), or pass batch_size=None"
            )
    check_amortised(model, guide, arguments)


def check_amortised(model: Program, guide: Program, arguments: Arguments) -> None:
    """Raise if the guide's latents belong to certain rows: it must run on fewer rows as well."""
    rows = row_count(arguments)
    if rows == 1:
        return
    args, kwargs = take_rows(arguments, torch.arange(rows - 1))
    problem: Exception | None = None
    try:
        with torch.no_grad(), evaluating(model, guide):
            trace, _ = run_pair(model, guide, args, kwargs)
            trace.compute_log_prob()
        fits = all(_fits(site) for site in latent_sites(trace).values())
    except (RuntimeError, ValueError) as error:
        problem, fits = error, False
    if not fits:
        raise ArgumentError(
            f"the guide cannot run on {rows - 1} of {rows} rows: its parameters belong to certain "
            "rows, and a batch would lend them to others. Pass batch_size=None and no validation, "
            "or use a guide that reads the data, such as an encoder"
        ) from problem


def _fits(site: Any) -> bool:
    """Tell whether a site's value has no more rows than its plates were declared with."""
    batch = site["value"].shape[: site["value"].dim() - len(site["fn"].event_shape)]
    for frame in site["cond_indep_stack"]:
        if frame.dim is None or -frame.dim > len(batch):
            continue
        # A replayed value of more rows makes Pyro widen the frame's size, not its full size.
        declared = frame.size if frame.full_size is None else min(frame.size, frame.full_size)
        if batch[frame.dim] not in (1, declared):
            return False
    return True
