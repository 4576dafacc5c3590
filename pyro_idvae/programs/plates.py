# SPDX-License-Identifier: Apache-2.0
"""Which plate holds the data, and whether a pair can run on a part of them."""

from __future__ import annotations

from typing import Any

from pyro import poutine

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments, one_row_more, row_count
from pyro_idvae.programs.run import Program, dry_run
from pyro_idvae.programs.sites import factor_sites, latent_sites, observed_sites


def frame_sizes(trace: Any) -> dict[str, int]:
    """Return the sizes of the plates around the observed sites, by name."""
    return {
        str(frame.name): int(frame.size)
        for site in [*observed_sites(trace).values(), *factor_sites(trace).values()]
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    }


def frame_dim(site: Any, plate: str | None) -> int | None:
    """Return the batch dimension (negative) of a plate at a site, or None.

    A parameter that ``poutine.lift`` makes a site is one for all rows, wherever it was read.
    """
    batch = site["fn"].batch_shape
    for frame in site["cond_indep_stack"]:
        if frame.name == plate and -frame.dim <= len(batch) and batch[frame.dim] == frame.size:
            return int(frame.dim)
    return None


def find_data_plate(model: Program, arguments: Arguments, trace: Any) -> str | None:
    """Return the name of the plate that grows with the data, or None.

    The model runs on one row more. A plate that does not grow with it only happens to have as many
    elements as there are rows. If the model cannot run on one row more, a plate of the right size
    is taken for the data's if it is the only one.
    """
    rows = row_count(arguments)
    names = [name for name, size in frame_sizes(trace).items() if size == rows]
    if not names:
        return None
    try:
        with poutine.block():
            grown_trace, _ = dry_run(model, None, one_row_more(arguments))
        grown_trace.compute_log_prob()
        more = frame_sizes(grown_trace)
    except (RuntimeError, ValueError, IndexError):
        more = {}
    grown = [name for name in names if more.get(name) == rows + 1]
    if len(grown) == 1:
        return grown[0]
    if not grown and more:
        return None
    if len(names) == 1:
        return names[0]
    raise ArgumentError(
        f"the plates {names} all have the size of the data's {rows} rows: give the data another "
        "number of rows, so that it can be told which of them holds the data"
    )


def subsampled_size(trace: Any) -> int | None:
    """Return the full size of a plate that the model itself subsamples, or None."""
    for site in observed_sites(trace).values():
        for frame in site["cond_indep_stack"]:
            full = _upstream.subsampled_from(frame)
            if full is not None:
                return full
    return None


def check_not_subsampled(trace: Any) -> None:
    """Raise for a model that subsamples a plate itself."""
    if subsampled_size(trace) is not None:
        raise ArgumentError(
            "the model subsamples a plate: its draws would be scored on other rows. Give it a "
            "plate of the size of its data, and pass the data you want"
        )


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
        if site["type"] != "sample" or _upstream.is_subsampling(site):
            continue
        if _upstream.is_deterministic(site):
            continue  # its density is 1, however often it is counted
        if frame_dim(site, plate) is None:
            kind = "observed" if site["is_observed"] else "latent"
            raise ArgumentError(
                f"the {kind} site {name!r} is not in a plate of the batch's {rows} rows: a "
                f"minibatch of {num_rows} would count it once for each batch. Put it inside "
                "pyro.plate('data', len(x)), or pass batch_size=None"
            )
    check_amortised(model, guide, arguments)


def check_amortised(model: Program, guide: Program | None, arguments: Arguments) -> None:
    """Raise if the guide's latents belong to certain rows: it must run on one row more as well."""
    # An error in running on these rows themselves is raised as it is.
    dry_run(model, guide, arguments)[0].compute_log_prob()
    problem: Exception | None = None
    try:
        trace, _ = dry_run(model, guide, one_row_more(arguments))
        trace.compute_log_prob()
        fits = all(_fits(site) for site in latent_sites(trace).values())
    except (RuntimeError, ValueError, IndexError) as error:
        problem, fits = error, False
    if not fits:
        rows = row_count(arguments)
        raise ArgumentError(
            f"model and guide run on {rows} rows but not on {rows + 1}: parameters of the guide "
            "belong to certain rows, and a batch would lend them to others"
            + (f" ({str(problem).splitlines()[0]})" if problem else "")
            + ". Pass batch_size=None and no validation, or use a guide that reads the data, such "
            "as an encoder"
        ) from problem


def _fits(site: Any) -> bool:
    """Tell whether a site's value has no more rows than its plates were declared with."""
    batch = site["value"].shape[: site["value"].dim() - len(site["fn"].event_shape)]
    for frame in site["cond_indep_stack"]:
        if frame.dim is None or -frame.dim > len(batch):
            continue
        if batch[frame.dim] not in (1, _upstream.declared_size(frame)):
            return False
    return True
