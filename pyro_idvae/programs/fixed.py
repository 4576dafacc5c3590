# SPDX-License-Identifier: Apache-2.0
"""A program in which a discrete site has one value in all rows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.programs.run import Program


def fix_site(program: Program, name: str, value: int) -> Program:
    """Return a program in which a discrete site has one value wherever its plates put it.

    The site counts as observed. Other than with ``poutine.condition``, the number of rows may be
    another one in each run.

    Args:
        program: the program.
        name: of the site.
        value: number of the value, as the support lists them.
    """

    def fix(msg: Any) -> None:
        if msg["name"] != name or msg["is_observed"]:
            return
        fn = msg["fn"]
        found = fn.enumerate_support(expand=False)[value]
        msg["value"] = found.expand(fn.batch_shape + fn.event_shape).clone()
        msg["is_observed"] = True
        # What is observed is not enumerated.
        msg["infer"] = {key: own for key, own in msg["infer"].items() if key != "enumerate"}

    fixed: Program = _upstream.Handler(sample=fix)(program)
    return fixed


def log_probabilities(site: Any) -> Tensor:
    """Return the log probability of each value, of shape ``batch + (values,)``."""
    fn = site["fn"]
    log_prob: Tensor = fn.log_prob(fn.enumerate_support(expand=False))
    shape = (len(log_prob), *fn.batch_shape)
    return log_prob.expand(shape).movedim(0, -1)
