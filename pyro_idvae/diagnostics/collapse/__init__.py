# SPDX-License-Identifier: Apache-2.0
"""Has the posterior collapsed to the prior?"""

from pyro_idvae.diagnostics.collapse.report import collapse_report, report_on
from pyro_idvae.diagnostics.collapse.table import (
    COLLAPSED,
    INFORMATIVE,
    UNDECIDED,
    CollapseReport,
    judge,
)

__all__ = [
    "COLLAPSED",
    "INFORMATIVE",
    "UNDECIDED",
    "CollapseReport",
    "collapse_report",
    "judge",
    "report_on",
]
