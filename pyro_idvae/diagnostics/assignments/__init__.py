# SPDX-License-Identifier: Apache-2.0
"""Which component each data point is of, by the guide and by the exact posterior."""

from pyro_idvae.diagnostics.assignments.assign import assignments
from pyro_idvae.diagnostics.assignments.report import Assignments

__all__ = ["Assignments", "assignments"]
