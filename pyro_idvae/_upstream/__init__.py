# SPDX-License-Identifier: Apache-2.0
"""Every name of Pyro and torch that is private, or public by habit only: one function each.

A leaf: it imports nothing of the package. Nothing outside this folder touches these names, and
``tests/test_upstream.py`` fails with the name and what to do when an upgrade moves one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.util import check_if_enumerated, check_model_guide_match, check_site_shape
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_hook

from pyro_idvae._upstream.factors import Factors as Factors

Site = Any
"""A node of a trace: a message of Pyro's handlers."""


class Handler(Messenger):
    """An effect handler made of functions of the message.

    Stands in for the methods ``_pyro_sample``, ``_pyro_param`` and ``_pyro_post_param`` that a
    subclass of ``Messenger`` is found by.
    """

    def __init__(
        self,
        *,
        sample: Callable[[Site], None] | None = None,
        param: Callable[[Site], None] | None = None,
        post_param: Callable[[Site], None] | None = None,
    ) -> None:
        super().__init__()
        self.functions = {"sample": sample, "param": param, "post_param": post_param}

    def _run(self, name: str, msg: Site) -> None:
        function = self.functions[name]
        if function is not None:
            function(msg)

    def _pyro_sample(self, msg: Site) -> None:
        self._run("sample", msg)

    def _pyro_param(self, msg: Site) -> None:
        self._run("param", msg)

    def _pyro_post_param(self, msg: Site) -> None:
        self._run("post_param", msg)


def given_parameter(msg: Site) -> Any:
    """Return what a ``pyro.param`` statement was given, for ``msg["args"][1]``; None if nothing."""
    return msg["args"][1] if len(msg["args"]) > 1 else None


def is_subsampling(site: Site) -> bool:
    """Tell whether a site is the index of a subsampled plate, for the class ``_Subsample``."""
    return type(site["fn"]).__name__ == "_Subsample"


def is_deterministic(site: Site) -> bool:
    """Tell a ``pyro.deterministic`` site, for ``infer["_deterministic"]``."""
    return bool(site["infer"].get("_deterministic", False))


def is_auxiliary(site: Site) -> bool:
    """Tell a site that only helps a guide, for ``infer["is_auxiliary"]``."""
    return bool(site["infer"].get("is_auxiliary", False))


def is_left_by_obs_mask(name: str, trace: Any) -> bool:
    """Tell the latent that ``obs_mask`` makes of a site, for the suffixes it names sites with."""
    whole = name.removesuffix("_unobserved")
    return whole != name and f"{whole}_observed" in trace.nodes


def unconstrained_site(trace: Any, name: str) -> Site | None:
    """Return the site an autoguide draws one from, for its suffix ``_unconstrained``."""
    return trace.nodes.get(f"{name}_unconstrained")


def declared_size(frame: Any) -> int:
    """Return the size a plate was made with, for ``full_size`` of a frame.

    A replayed value of more rows makes Pyro widen ``size``, not ``full_size``.
    """
    size = int(frame.size)
    return size if frame.full_size is None else min(size, int(frame.full_size))


def subsampled_from(frame: Any) -> int | None:
    """Return the size of the plate that a frame is a part of, for ``full_size``; else None."""
    full = frame.full_size
    return int(full) if full is not None and full > frame.size else None


def site_log_prob(site: Site) -> Tensor:
    """Return a site's log density, masked and not scaled, for ``unscaled_log_prob``."""
    log_prob: Tensor = scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
    return log_prob


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors into tensors in one go, for ``torch._foreach_copy_``."""
    torch._foreach_copy_(targets, sources)


def divide_all(tensors: list[Tensor], divisor: float) -> None:
    """Divide tensors in place in one go, for ``torch._foreach_div_``."""
    torch._foreach_div_(tensors, divisor)


def version_of(tensor: Tensor) -> tuple[int, int, int]:
    """Return what changes when a tensor is replaced or written to, for ``_version``."""
    return id(tensor), tensor.data_ptr(), tensor._version


def is_same_memory(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors begin at one place in memory, for ``data_ptr``."""
    return one.data_ptr() == other.data_ptr()


def tensor_addresses(distribution: Any) -> dict[str, int]:
    """Return where a distribution's parameters lie in memory, by name, for ``data_ptr``.

    A Beta keeps its own in ``_dirichlet``.
    """
    inner = getattr(distribution, "_dirichlet", distribution)
    return {name: v.data_ptr() for name, v in vars(inner).items() if isinstance(v, Tensor)}


def validates(distribution: Any) -> bool:
    """Tell whether a distribution, or all of a class, check arguments, for ``_validate_args``."""
    return bool(distribution._validate_args)


def set_validation(distribution: Any, validate: bool) -> None:
    """Let a distribution check arguments or not, for ``_validate_args``."""
    distribution._validate_args = validate


def checked_instance(distribution: Any, kind: type[Any], instance: Any) -> Any:
    """Return what ``expand`` is to fill, for ``_get_checked_instance``."""
    return distribution._get_checked_instance(kind, instance)


def on_module_call(hook: Callable[[nn.Module, Any, Any], None]) -> Any:
    """Call a hook after every module's forward, for a function in ``torch.nn.modules``."""
    return register_module_forward_hook(hook)


def is_traced(tensor: Tensor) -> bool:
    """Tell whether a tensor is one of ``torch.jit.trace`` or functorch, for ``torch._C``."""
    tracing: bool = torch._C._get_tracing_state() is not None
    return tracing or torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def record(function: Callable[..., Any], *examples: Tensor) -> torch.fx.GraphModule:
    """Return the operations of a function of tensors, for ``make_fx`` of ``torch.fx``.

    Stands in for ``torch.backends.mkldnn.flags`` too, which warns where there is no Intel GPU.
    Without oneDNN: the gradient of its recurrent networks asks for a workspace that only a forward
    pass with gradients leaves, so that what was recorded with them fails without.
    """
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        graph: torch.fx.GraphModule = make_fx(function)(*examples)
    finally:
        torch._C._set_mkldnn_enabled(enabled)
    return graph


def on_trajectory(kernel: Any, hook: Callable[[float], None]) -> None:
    """Call a hook with the energy at the start of each trajectory of an HMC or NUTS kernel.

    Stands in for ``_sample_r``, ``_kinetic_energy`` and ``_potential_energy_last``.
    """
    draw = kernel._sample_r

    def observed(*args: Any, **kwargs: Any) -> Any:
        momenta = draw(*args, **kwargs)
        hook(float(kernel._kinetic_energy(momenta[1]) + kernel._potential_energy_last))
        return momenta

    kernel._sample_r = observed


def mean_acceptance(kernel: Any) -> float:
    """Return the running mean of a kernel's acceptance, for ``_mean_accept_prob``."""
    return float(kernel._mean_accept_prob)


def divergent_draws(kernel: Any) -> list[int]:
    """Return the numbers of the draws that diverged, for ``_divergences``."""
    return list(kernel._divergences)


def set_metric(kernel: Any, covariance: Tensor) -> None:
    """Begin in the metric of a covariance, for ``mass_matrix_adapter.inverse_mass_matrix``."""
    adapter = kernel.mass_matrix_adapter
    adapter.inverse_mass_matrix = {
        sites: covariance.diagonal() if matrix.dim() == 1 else covariance
        for sites, matrix in adapter.inverse_mass_matrix.items()
    }


def chain_state(kernel: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return where an HMC or NUTS kernel is after its warm-up, in copies: tensors, and JSON.

    Stands in for ``_fetch_from_cache``, ``_t``, ``_accept_cnt``, ``_mean_accept_prob`` and
    ``_divergences``.
    """
    z, energy, grads = kernel._fetch_from_cache()
    metric = kernel.mass_matrix_adapter.inverse_mass_matrix
    tensors = {f"metric/{place}": matrix for place, matrix in enumerate(metric.values())}
    tensors |= {f"z/{name}": value for name, value in z.items()}
    tensors |= {f"grad/{name}": value for name, value in grads.items()}
    numbers = {
        "step_size": float(kernel.step_size),
        "t": kernel._t,
        "accepted": kernel._accept_cnt,
        "mean_acceptance": float(kernel._mean_accept_prob),
        "divergences": list(kernel._divergences),
    }
    kept = {name: value.detach().clone() for name, value in tensors.items()}
    return {**kept, "energy": energy.detach().clone()}, numbers


def set_chain_state(kernel: Any, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Go to where :func:`chain_state` found a kernel; this one is set up for the same model."""
    adapter = kernel.mass_matrix_adapter
    adapter.inverse_mass_matrix = {
        sites: tensors[f"metric/{place}"] for place, sites in enumerate(adapter.inverse_mass_matrix)
    }
    kernel._adapter.step_size = numbers["step_size"]
    z, grads = (
        {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
        for start in ("z/", "grad/")
    )
    kernel._cache(z, tensors["energy"], grads)
    kernel._t, kernel._accept_cnt = numbers["t"], numbers["accepted"]
    kernel._mean_accept_prob = numbers["mean_acceptance"]
    kernel._divergences = list(numbers["divergences"])


def optimizers_of(optimizer: Any) -> dict[Tensor, Any]:
    """Return a ``PyroOptim``'s optimiser, or its scheduler, of each tensor, for ``optim_objs``."""
    found: dict[Tensor, Any] = optimizer.optim_objs
    return found


def waiting_states(optimizer: Any) -> dict[str, Any]:
    """Return states of a ``PyroOptim`` for parameters it has not stepped yet, by name.

    Stands in for ``_state_waiting_to_be_consumed``.
    """
    found: dict[str, Any] = optimizer._state_waiting_to_be_consumed
    return found


def guess_plate_nesting(elbo: Any, model: Any, guide: Any, args: Any, kwargs: Any) -> None:
    """Let an ELBO find how deeply plates nest, for ``_guess_max_plate_nesting``."""
    elbo._guess_max_plate_nesting(model, guide, args, kwargs)


def trace_of(elbo: Any, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return a run of a pair as an ELBO makes it, for the hook ``_get_trace``."""
    traces: tuple[Any, Any] = elbo._get_trace(model, guide, args, kwargs)
    return traces


def check_traces(model_trace: Any, guide_trace: Any, max_plate_nesting: Any) -> None:
    """Check a pair's run as Pyro's ELBOs do, for three functions of ``pyro.util``."""
    check_if_enumerated(guide_trace)
    check_model_guide_match(model_trace, guide_trace, max_plate_nesting)
    for trace in (model_trace, guide_trace):
        for site in trace.nodes.values():
            if site["type"] == "sample" and "log_prob" in site:
                check_site_shape(site, max_plate_nesting)


def is_baseline(name: str) -> bool:
    """Tell a running mean that ``TraceGraph_ELBO`` keeps in the store, for its name's beginning."""
    return name.startswith("__baseline_avg_downstream_cost_")
