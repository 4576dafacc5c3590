# SPDX-License-Identifier: Apache-2.0
"""Every name of Pyro and torch that is private, or public by habit only: one function each.

A leaf: it imports nothing of the package. No other file touches these names, and
``tests/test_upstream.py`` fails with the name and what to do when an upgrade moves one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.ops import packed
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.module import register_module_forward_hook

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


class Factors:
    """The log densities of a run under ``poutine.enum``, ready to be multiplied and summed.

    Stands in for packed tensors, whose dimensions have the letters in ``_pyro_dims``, and for
    ``pyro.ops.contract``, which sums a discrete site out inside the plates it stands in.

    Args:
        trace: the run, its log densities computed.
    """

    def __init__(self, trace: Any) -> None:
        trace.pack_tensors()
        self.trace = trace
        self.terms: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
            for frame in site["cond_indep_stack"]:
                if frame.vectorized:
                    self.sizes[trace.plate_to_symbol[frame.name]] = int(frame.size)
            factor = site["packed"]
            term = packed.scale_and_mask(factor["unscaled_log_prob"], mask=factor["mask"])
            self.terms[name] = term
            self.sizes.update(zip(term._pyro_dims, term.shape, strict=True))

    def symbol(self, name: str) -> str | None:
        """Return the letter of a site's enumerated dimension, for ``_enumerate_symbol``."""
        found: str | None = self.trace.nodes[name]["infer"].get("_enumerate_symbol")
        return found

    def depends_on(self, name: str, others: Sequence[str]) -> bool:
        """Tell whether a site's density varies with the values of enumerated sites."""
        return any(self.symbol(other) in self.terms[name]._pyro_dims for other in others)

    def _plates(self, name: str) -> frozenset[str]:
        frames = self.trace.nodes[name]["cond_indep_stack"]
        return frozenset(self.trace.plate_to_symbol[f.name] for f in frames if f.vectorized)

    def total(self, names: Sequence[str], plate: str | None) -> Tensor:
        """Return the log of the product of some sites' densities, the discrete ones summed out.

        Args:
            names: the sites; enumerated ones among them are summed out.
            plate: the plate to keep; all are multiplied out if None.

        Returns:
            A tensor of shape ``(plate size,)`` or ``()``.
        """
        tree: OrderedDict[frozenset[str], list[Any]] = OrderedDict()
        for name in names:
            tree.setdefault(self._plates(name), []).append(self.terms[name])
        summed = {symbol for symbol in map(self.symbol, names) if symbol is not None}
        kept = frozenset() if plate is None else frozenset([self.trace.plate_to_symbol[plate]])
        ring = LogRing(dim_to_size=self.sizes)
        found: Tensor = contract_to_tensor(tree, summed, target_ordinal=kept, ring=ring)
        return found

    def probabilities(self, name: str, names: Sequence[str]) -> Tensor:
        """Return p(value | the rest) of an enumerated site, of shape ``plates + (values,)``.

        The gradient of the log of a sum with respect to the log of its terms is their shares.
        """
        dims = self.terms[name]._pyro_dims
        whole = self.terms
        try:
            with torch.enable_grad():
                leaf: Any = whole[name].detach().requires_grad_()
                leaf._pyro_dims = dims
                self.terms = {**whole, name: leaf}
                (share,) = torch.autograd.grad(self.total(names, None), leaf)
        finally:
            self.terms = whole
        site = self.trace.nodes[name]
        symbol = self.symbol(name)
        share = share.movedim(dims.index(symbol), -1) if symbol in dims else share.unsqueeze(-1)
        frames = sorted((f for f in site["cond_indep_stack"] if f.vectorized), key=lambda f: f.dim)
        found: Tensor = share.reshape([*(int(f.size) for f in frames), share.shape[-1]])
        return found


def optimized_tensors(optimizer: Any) -> list[Tensor]:
    """Return the tensors a ``PyroOptim`` has stepped, for ``optim_objs``."""
    return list(optimizer.optim_objs)


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
    """Return the operations of a function of tensors, for ``make_fx`` of ``torch.fx``."""
    graph: torch.fx.GraphModule = make_fx(function)(*examples)
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
