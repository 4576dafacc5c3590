# SPDX-License-Identifier: Apache-2.0
"""Discrete sites that are marked to be summed out need an objective that does it."""

from __future__ import annotations

from typing import Any

from pyro.infer import RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceGraph_ELBO

from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.sites import latent_sites

DRAWING = (Trace_ELBO, TraceGraph_ELBO, RenyiELBO, ReweightedWakeSleep)
"""Objectives that draw every site, whatever its mark."""


def check_enumeration(elbo: Any, model_trace: Any, guide_trace: Any = None) -> None:
    """Raise for sites marked by ``infer={"enumerate": ...}`` under an ELBO that only draws.

    It would draw them, those of the model from the prior: no bound on log p(x) any more.

    Args:
        elbo: a Pyro ELBO; None for ``Trace_ELBO()``. One of another class is trusted.
        model_trace: a run of the model.
        guide_trace: a run of its guide.

    Raises:
        ArgumentError: naming the sites.
    """
    if elbo is not None and not isinstance(elbo, DRAWING):
        return
    traces = [trace for trace in (model_trace, guide_trace) if trace is not None]
    marked = {
        name: None
        for trace in traces
        for name, site in latent_sites(trace).items()
        if site["infer"].get("enumerate")
    }
    if marked:
        name = "Trace_ELBO (the default)" if elbo is None else type(elbo).__name__
        raise ArgumentError(
            f"the sites {list(marked)} are marked to be enumerated, but elbo={name} draws them: "
            "pass elbo=TraceEnum_ELBO(), or take the marks away and let the guide sample them"
        )
