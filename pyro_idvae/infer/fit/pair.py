# SPDX-License-Identifier: Apache-2.0
"""All tensors that make a model and guide what they are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_idvae.errors import CheckpointError
from pyro_idvae.programs.run import Program, modules_of, owners_of


class PairTensors:
    """The parameters and buffers of a pair.

    Those of the modules behind the programs are called ``model.<name>`` and ``guide.<name>``; what
    else is in Pyro's parameter store, ``param.<name>``, unconstrained.

    Args:
        model: the model.
        guide: its guide, or None.
        parameters: what they have in the store.
        methods: whether the module behind a bound method counts as its program's.
    """

    def __init__(
        self,
        model: Program,
        guide: Program | None,
        parameters: Mapping[str, Tensor],
        *,
        methods: bool = True,
    ) -> None:
        self.modules: dict[str, nn.Module] = {}
        for role, program in (("model", model), ("guide", guide)):
            for module in owners_of(program) if methods else modules_of(program):
                if all(module is not other for other in self.modules.values()):
                    self.modules[role] = module
        owned = {id(p) for module in self.modules.values() for p in module.parameters()}
        self.parameters = {n: p for n, p in parameters.items() if id(p) not in owned}

    def live(self) -> dict[str, Tensor]:
        """Return the tensors themselves; what a module keeps besides tensors is refused."""
        found: dict[str, Any] = {}
        for role, module in self.modules.items():
            for name, value in module.state_dict(keep_vars=True).items():
                found[f"{role}.{name}"] = value
        for name, value in found.items():
            if not isinstance(value, Tensor):
                raise CheckpointError(
                    f"{name} is a {type(value).__name__}: only tensors are kept; drop the module's "
                    "get_extra_state"
                )
        found.update({f"param.{name}": p for name, p in self.parameters.items()})
        return found

    def copy(self) -> dict[str, Tensor]:
        """Return copies of the tensors."""
        return {name: value.detach().clone() for name, value in self.live().items()}

    def check_finite(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        """Raise for weights that are not finite, and for buffers that are NaN.

        Args:
            where: what to call the tensors' place.
            tensors: values for those of the pair.
        """
        live = self.live()
        bad = [
            name
            for name, value in tensors.items()
            if value.is_floating_point()
            and value.layout == torch.strided
            and bool(value.isnan().any() or (live[name].requires_grad and value.isinf().any()))
        ]
        if bad:
            raise CheckpointError(f"{where}: the weights {bad} are not finite: fit again")

    def load(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        """Set the tensors to values; nothing is changed unless all fits.

        Args:
            where: what to call the values' place.
            tensors: values by name.

        Raises:
            CheckpointError: if names, shapes or dtypes are not those of the pair.
        """
        live = self.live()
        self._check(where, live, tensors)
        before = {name: value.detach().clone() for name, value in live.items()}
        try:
            copy_tensors(live, tensors)
        except BaseException:
            copy_tensors(live, before)
            raise

    @staticmethod
    def _check(where: str, live: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        missing, extra = sorted(set(live) - set(found)), sorted(set(found) - set(live))
        if missing or extra:
            raise CheckpointError(
                f"{where}: the file lacks {missing} and has {extra} besides. Build model and guide "
                "with the saved ones' arguments; an autoguide must be run once first: pass data="
            )
        lazy = [name for name, value in live.items() if is_lazy(value)]
        if lazy:
            raise CheckpointError(f"{where}: {lazy} have no shape yet: pass data= to run them once")
        wrong = {
            name: (_kind(found[name]), _kind(value))
            for name, value in live.items()
            if _kind(found[name]) != _kind(value)
        }
        if wrong:
            raise CheckpointError(
                f"{where}: shapes, dtypes or layouts in the file and in the pair differ: {wrong}. "
                "Build it with the saved one's arguments and dtype"
            )


def _kind(tensor: Tensor) -> str:
    layout = "" if tensor.layout == torch.strided else f" {tensor.layout}"
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}{layout}"


@torch.no_grad()
def copy_tensors(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    """Copy tensors into tensors of the same names."""
    for name, target in targets.items():
        target.copy_(sources[name])
