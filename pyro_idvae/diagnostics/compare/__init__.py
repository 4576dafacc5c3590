# SPDX-License-Identifier: Apache-2.0
"""A guide's posterior held against the exact one."""

from pyro_idvae.diagnostics.compare.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
